"""Whether one adapter is better than another on the same rows: a paired randomization test."""

import numpy as np

from trainer.gate.evidence import Floats, Integers
from trainer.gate.scores import score, tallies
from trainer.gate.settings import Metric

_DRAWS_AT_ONCE = 1000
_ENOUGH = 100


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

    If both are as good as each other, exchanging their answers on a row changes nothing: so each row where
    they differ is exchanged with a chance of one half, many times. Exact where answers can be exchanged, for
    any number of rows and any level; for accuracy it is the sign test. Noreen: Computer-Intensive Methods for
    Testing Hypotheses (1989), chapter 2; ADR 0076 says why not the bootstrap. Drawing stops when the answer
    is plain: Besag, Clifford: Sequential Monte Carlo p-values (Biometrika 1991).

    Args:
        truth: int64 (rows).
        before: int64 (rows), the answers to beat.
        after: int64 (rows), the answers of the newcomer.
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
