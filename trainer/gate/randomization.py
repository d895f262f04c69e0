"""Whether one adapter is better than another on the same rows: a paired randomization test."""

import numpy as np

from trainer.gate.evidence import Floats, Integers
from trainer.gate.scores import score, tallies
from trainer.gate.settings import Metric

_DRAWS_AT_ONCE = 1000
_ENOUGH = 50


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
    they differ is exchanged with a chance of one half, many times. Exact where the answers can be
    exchanged, for any number of rows and any level; for accuracy it is the sign test. Noreen:
    Computer-Intensive Methods for Testing Hypotheses (1989), chapter 2. Drawing stops when the answer is
    plain: Besag, Clifford: Sequential Monte Carlo p-values (Biometrika 1991).

    Args:
        truth: int64 (rows).
        before: int64 (rows), the answers to beat.
        after: int64 (rows), the answers of the newcomer.
        weights: float64 (rows).
        labels: Number of labels.
        metric: What is compared.
        level: The p-value that decides; it says how many draws are needed.
        seed: Of the draws.
    """
    total, old = float(weights.sum()), tallies(truth, before, labels)
    change = (tallies(truth, after, labels) - old) * weights[:, None]
    old_sums, change = weights @ old, change[before != after]
    observed = _gain(old_sums, change.sum(axis=0), change.sum(axis=0), total, metric)
    random, draws, as_good = np.random.default_rng(seed), 0, 0
    while as_good < _ENOUGH and draws < _ENOUGH / level:
        kept = random.integers(0, 2, (_DRAWS_AT_ONCE, len(change))).astype(np.float64)
        # (draws, 2 labels): what the rows that are not exchanged change
        gains = _gain(old_sums, kept @ change, change.sum(axis=0), total, metric)
        as_good += int((gains >= observed - 1e-12).sum())
        draws += _DRAWS_AT_ONCE
    return float(observed), (as_good + 1) / (draws + 1)


def _gain(old: Floats, kept: Floats, whole: Floats, total: float, metric: Metric) -> Floats:
    """After's metric less before's where only the kept changes are after's and the others before's."""
    return score(old + kept, total, metric) - score(old + whole - kept, total, metric)
