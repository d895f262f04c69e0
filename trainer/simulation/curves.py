"""Learning curves over seeds, and what a strategy saves in labels. Pure.

Efron, Tibshirani: An Introduction to the Bootstrap (1993), for the intervals of labels; seeds are resampled,
and both strategies' curves of a seed stay together, as they share its rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from classifier.calibration import Floats

_RESAMPLES = 2000
_ROUNDING = 1e-9  # a mean over the same numbers in another order


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """A measure of one strategy, of each seed.

    Attributes:
        labels: float64 (nights + 1): labels spent, night 0 first.
        values: float64 (seeds, nights + 1).
    """

    labels: Floats
    values: Floats

    @property
    def mean(self) -> Floats:
        """float64 (nights + 1)."""
        return np.asarray(self.values.mean(axis=0))


@dataclass(frozen=True, slots=True)
class Saving:
    """Labels that a strategy needs to reach what random reaches at its end.

    Attributes:
        share: Of random's labels; infinite where it never does.
        low: End of the 95 % interval over seeds.
        high: The other end; infinite where more than 2.5 % of the resamples never do.
    """

    share: float
    low: float
    high: float


def whole_seeds(lines: Sequence[Mapping[str, Any]]) -> list[dict[int, Mapping[str, Any]]]:
    """The lines of each seed by their nights, seeds in order; seeds that are not done are left out."""
    seeds: dict[int, dict[int, Mapping[str, Any]]] = {}
    for line in lines:
        seeds.setdefault(line["seed"], {})[line["night"]] = line
    last = max((night for nights in seeds.values() for night in nights), default=0)
    return [nights for _, nights in sorted(seeds.items()) if len(nights) == last + 1]


def curves(lines: Sequence[Mapping[str, Any]], model: str, metric: str) -> Curves:
    """The curves of seeds whose nights are all there; lines of one strategy.

    Args:
        lines: Results.
        model: ``candidate`` or ``active``.
        metric: ``macro_f1`` or ``accuracy``.
    """
    whole = whole_seeds(lines)
    last = len(whole[0]) - 1 if whole else 0
    values = [[nights[night][model][metric] for night in range(last + 1)] for nights in whole]
    labels = [whole[0][night]["labels"] for night in range(last + 1)] if whole else []
    return Curves(np.array(labels, float), np.array(values, float).reshape(len(whole), last + 1))


def half_width(values: Floats) -> Floats:
    """float64 (nights): half of the 95 % interval of the mean over seeds, float64 (seeds, nights).

    Infinite with a single seed: one run says nothing about another.
    """
    from scipy.stats import t as student

    seeds = len(values)
    if seeds < 2:
        return np.full(values.shape[1], np.inf)
    return np.asarray(student.ppf(0.975, seeds - 1) * values.std(axis=0, ddof=1) / np.sqrt(seeds))


def labels_needed(labels: Floats, values: Floats, target: float) -> float:
    """Where a curve first reaches the target, on straight lines between nights; infinite where it never does.

    Args:
        labels: float64 (nights), rising.
        values: float64 (nights).
        target: What is to be reached.
    """
    reached = np.flatnonzero(values >= target - _ROUNDING)
    if not len(reached):
        return float("inf")
    at = int(reached[0])
    if at == 0:
        return float(labels[0])
    share = (target - values[at - 1]) / (values[at] - values[at - 1])
    return float(labels[at - 1] + share * (labels[at] - labels[at - 1]))


def saving(strategy: Curves, random: Curves, seed: int = 0) -> Saving:
    """Labels needed for random's final mean, as a share of all that random spent after night 0.

    Args:
        strategy: Of the same seeds as random's.
        random: What it is held against.
        seed: Of the bootstrap.
    """
    start, spent = random.labels[0], random.labels[-1] - random.labels[0]

    def share(of: Floats, against: Floats) -> float:
        needed = labels_needed(strategy.labels, of.mean(axis=0), float(against[:, -1].mean()))
        return float((needed - start) / spent)

    seeds = len(random.values)
    drawn = np.random.default_rng(seed).integers(0, seeds, (_RESAMPLES, seeds))
    shares = [share(strategy.values[rows], random.values[rows]) for rows in drawn]
    low, high = np.quantile(shares, (0.025, 0.975), method="closest_observation")
    return Saving(share(strategy.values, random.values), float(low), float(high))


def nights_below(strategy: Curves, random: Curves) -> float:
    """Share of nights on which the mean is below random's by more than the paired difference's interval."""
    difference = (strategy.values - random.values)[:, 1:]
    return float(np.mean(difference.mean(axis=0) < -half_width(difference)))
