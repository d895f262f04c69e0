"""The gate's statistics: metrics of weighted rows, the bootstrap, randomization and sign tests, spending."""

import numpy as np
from scipy.special import logsumexp, zeta

from drift.performance import mean_over_classes
from trainer.gate.evidence import Floats, Integers
from trainer.settings import Metric

_CELLS_AT_ONCE = 2_000_000
_DRAWS_AT_ONCE = 1000
_ENOUGH = 100
_THROWS = 20_000


def _nodes() -> tuple[Floats, Floats]:
    """Bets in [0, 1] and their shares: the rule of Gauss and Legendre, exact for several hundred rows."""
    nodes, shares = np.polynomial.legendre.leggauss(400)
    return (nodes + 1) / 2, shares / 2


_BETS = _nodes()


def resampled_sums(columns: Floats, resamples: int, seed: int) -> Floats:
    """float64 (resamples, columns): what the columns sum to on rows drawn with replacement.

    Both adapters' numbers of a row stand in one row of ``columns``, so they are drawn together. Koehn:
    Statistical Significance Tests for Machine Translation Evaluation (EMNLP 2004); Efron, Tibshirani: An
    Introduction to the Bootstrap (1993), chapter 8.

    Args:
        columns: float64 (rows, columns). Their order does not matter: they are drawn from in sorted order.
        resamples: How many times all rows are drawn.
        seed: Of the draws.
    """
    rows = len(columns)
    ordered = columns[np.lexsort(columns.T)] if rows else columns
    random, sums = np.random.default_rng(seed), []
    chunk = max(1, _CELLS_AT_ONCE // max(1, rows))
    for first in range(0, resamples, chunk):
        size = min(chunk, resamples - first)
        drawn = random.integers(0, max(1, rows), (size, rows)) + np.arange(size)[:, None] * rows
        times = np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows)
        sums.append(times @ ordered)
    return np.concatenate(sums)


def tallies(truth: Integers, said: Integers, labels: int) -> Floats:
    """float64 (rows, 3 labels): for each label whether a row is a hit, is true, and is said to be.

    Both metrics follow from their weighted sums over rows, so resampling rows is a product of matrices.
    """
    columns = np.arange(labels)
    is_true, is_said = truth[:, None] == columns, said[:, None] == columns
    return np.hstack([is_true & is_said, is_true, is_said]).astype(np.float64)


def score(sums: Floats, rows: float | Floats, metric: Metric) -> Floats:
    """The metric, float64 (…), from weighted sums of :func:`tallies`, float64 (…, 3 labels).

    Macro-F1 is the mean over the labels that occur, as in :mod:`trainer.metrics`.

    Args:
        sums: Sums of the rows' tallies.
        rows: Sum of the rows' weights, float64 (…).
        metric: Which one.
    """
    hits, true, said = np.split(sums, 3, axis=-1)
    if metric == "accuracy":
        return np.asarray(hits.sum(axis=-1) / rows)
    seen = true + said
    return mean_over_classes(2 * hits / np.where(seen > 0, seen, 1), true)


def better_by_chance(
    truth: Integers,
    before: Integers,
    after: Integers,
    *,
    weights: Floats,
    labels: int,
    metric: Metric,
    level: float,
    seed: int,
) -> tuple[float, float]:
    """How much better ``after`` is, and how often chance alone does as well: difference and p-value.

    If both are as good as each other, exchanging their predictions on a row changes nothing: so each row
    where they differ is exchanged with a chance of one half, many times. Exact where predictions can be
    exchanged, for any number of rows and any level; for accuracy it is the sign test. Noreen:
    Computer-Intensive Methods for Testing Hypotheses (1989), chapter 2; ADR 0076 says why not the bootstrap.
    Drawing stops when the result is plain: Besag, Clifford: Sequential Monte Carlo p-values
    (Biometrika 1991).

    Args:
        truth: int64 (rows).
        before: int64 (rows), the predicted labels to beat.
        after: int64 (rows), the predicted labels of the newcomer.
        weights: float64 (rows).
        labels: Number of labels.
        metric: What is compared.
        level: The p-value that decides; it says how many draws are needed.
        seed: Of the draws. The order of the rows does not matter.
    """
    total, old = float(weights.sum()), tallies(truth, before, labels)
    change = (tallies(truth, after, labels) - old) * weights[:, None]
    old_sums, whole = weights @ old, change.sum(axis=0)
    observed = float(_gain(old_sums, whole, whole, total, metric))
    # Rows that change the same are alike: how many of them stay is one binomial draw.
    kinds, rows_of_kind = np.unique(change[before != after], axis=0, return_counts=True)
    random, draws, as_good = np.random.default_rng(seed), 0, 0
    while as_good < _ENOUGH and draws < _ENOUGH / level:
        kept = random.binomial(rows_of_kind, 0.5, (_DRAWS_AT_ONCE, len(kinds)))  # (draws, kinds)
        gains = _gain(old_sums, kept @ kinds, whole, total, metric)
        as_good += int((gains >= observed - 1e-12).sum())
        draws += _DRAWS_AT_ONCE
    return observed, (as_good + 1) / (draws + 1)


def _gain(old: Floats, kept: Floats, whole: Floats, total: float, metric: Metric) -> Floats:
    """After's metric less before's where only the kept changes are after's and the others before's."""
    return score(old + kept, total, metric) - score(old + whole - kept, total, metric)


def tail(at_least: int, tosses: int) -> float:
    """The chance that a fair coin shows at least so many heads in so many tosses.

    McNemar's test in its exact form: tosses are rows that one adapter has right and the other wrong.
    McNemar: Note on the sampling error of the difference between correlated proportions (Psychometrika 1947).
    """
    from scipy.stats import binom

    return float(binom.sf(at_least - 1, tosses, 0.5))


def log_stake(losses: Floats, wins: Floats) -> float:
    """What a unit staked on "loses more weight than it wins" has become, as a natural logarithm.

    The mean over all bets b, uniform in [0, 1], of the product of (1 + b w) over losses and (1 - b w) over
    wins, each with its weight w. Where losses weigh no more than wins a row's factor is at most 1 in the
    mean, whatever came before: a test martingale for any weights known before the answer. Where all
    weights are 1 it is the integral of 2 (2p)^losses (2 - 2p)^wins over p from 1/2 to 1. Waudby-Smith,
    Ramdas: Estimating means of bounded random variables by betting (JRSS B 2024).

    Args:
        losses: float64 (rows lost), weights in (0, 1].
        wins: float64 (rows won), weights in (0, 1].
    """
    bets, shares = _BETS
    logs = np.log(shares)
    for weights, sign in ((losses, 1.0), (wins, -1.0)):
        each, times = np.unique(weights, return_counts=True)
        logs = logs + np.log1p(sign * bets[:, None] * each) @ times
    return float(logsumexp(logs))


def chance_of_sum(losses: Floats, wins: Floats, seed: int = 0) -> float:
    """How often chance alone loses as much weight: each row that differs is a loss or a win by a fair coin.

    With equal weights it is :func:`tail`, the exact sign test. Otherwise coins are thrown many times, which
    is exact as well for any number of throws. Noreen (1989), chapter 2.

    Args:
        losses: float64 (rows lost), positive weights.
        wins: float64 (rows won), positive weights.
        seed: Of the coins. The order of the rows does not matter.
    """
    weights = np.sort(np.concatenate([losses, wins]))
    if not len(weights) or weights[0] == weights[-1]:
        return tail(len(losses), len(weights))
    each, times = np.unique(weights, return_counts=True)
    random, as_many = np.random.default_rng(seed), 0
    for _ in range(_THROWS // _DRAWS_AT_ONCE):
        thrown = random.binomial(times, 0.5, (_DRAWS_AT_ONCE, len(each))) @ each
        as_many += int((thrown >= losses.sum() - 1e-9).sum())
    return (as_many + 1) / (_THROWS + 1)


def alpha_of_attempt(attempts_before: int, alpha: float, exponent: float) -> float:
    """The level of one run's test: shares of ``alpha`` that sum to it over endlessly many runs.

    Run n gets n^-exponent / zeta(exponent) of it. The chance that any of the runs is wrong is at most the sum
    of their levels (Bonferroni), however alike the runs are. Lan, DeMets: Discrete sequential boundaries for
    clinical trials (Biometrika 1983) call it spending; ADR 0076 says why it is enough here.

    Args:
        attempts_before: Comparisons made before this one, since the last promotion on these rows.
        alpha: The chance of a mistake over all runs.
        exponent: Over 1; the greater, the more is spent at the beginning.
    """
    return float(alpha * (attempts_before + 1) ** -exponent / zeta(exponent))
