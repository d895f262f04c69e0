"""Pairs of adapters that do not exist: which rows each has right, and how sure it is of them."""

from dataclasses import dataclass, replace

import numpy as np

from trainer.gate.evidence import Evidence

LABELS = ("negative", "neutral", "positive")
MIX = (0.2, 0.15, 0.65)
ACCURACY = 0.8
_GRID = 2048


@dataclass(frozen=True)
class Difference:
    """How a candidate differs from the active adapter: shares of all rows that it wins and loses.

    12 % of the rows and 3 points: ``Difference(0.075, 0.045)``.
    """

    wins: float
    loses: float

    def flip(self, random, right):
        """Which rows the candidate has right, bool (rows); the active adapter's accuracy is ACCURACY."""
        return np.where(
            right,
            random.random(len(right)) >= self.loses / ACCURACY,
            random.random(len(right)) < self.wins / 0.2,
        )


def truths(random, rows):
    return random.choice(len(LABELS), rows, p=MIX)


def answers(random, truth, right):
    """int64 (rows): the truth where it is right, another label elsewhere."""
    return np.where(right, truth, (truth + random.integers(1, len(LABELS), len(truth))) % len(LABELS))


def evidence(random, rows, difference, sharper=1.0):
    """Both adapters on a quarter of audit rows, with slices as a shop has them; both are calibrated.

    Args:
        random: A generator.
        rows: How many.
        difference: Of the candidate.
        sharper: Exponent that spoils the candidate's calibration; over 1 makes it too sure.
    """
    truth = truths(random, rows)
    right = random.random(rows) < ACCURACY
    active = answers(random, truth, right)
    now = difference.flip(random, right)
    candidate = np.where(now == right, active, answers(random, truth, now))
    ease = random.random(rows)  # how sure they are goes together
    sure = (
        probabilities(random, candidate, now, ACCURACY + difference.wins - difference.loses, ease) ** sharper
    )
    return Evidence(
        truth,
        probabilities(random, active, right, ACCURACY, ease),
        sure / sure.sum(axis=1, keepdims=True),
        LABELS,
        random.random(rows) < 0.25,
        slices(random, rows),
    )


def probabilities(random, said, right, accuracy, ease):
    """float64 (rows, labels) with ``said`` on top; of those with confidence c a share of c is right."""
    share = (accuracy - 1 / 3) * 1.5
    grid = np.sort(1 / 3 + np.random.default_rng(0).beta(4 * share, 4 - 4 * share, _GRID) * 2 / 3)
    top = np.empty(len(said))
    for rows, density in ((right, grid), (~right, 1 - grid)):  # Bayes: confidence given that it is right
        place = np.searchsorted(density.cumsum() / density.sum(), ease[rows])
        top[rows] = grid[np.minimum(place, _GRID - 1)]
    low = np.maximum(0, 1 - top / np.maximum(1 - top, 1e-9))  # no other label may be surer
    second = (1 - top) * (low + (1 - 2 * low) * random.random(len(said)))
    result = np.empty((len(said), len(LABELS)))
    rows = np.arange(len(said))
    result[rows, said], result[rows, (said + 1) % 3], result[rows, (said + 2) % 3] = (
        top,
        second,
        1 - top - second,
    )
    return result


def slices(random, rows):
    """20 products of very different size, 3 sources, 3 lengths, 6 months."""
    sizes = 1 / np.arange(1, 21)
    return {
        "product": [f"product {n}" for n in random.choice(20, rows, p=sizes / sizes.sum())],
        "source": [f"source {n}" for n in random.choice(3, rows, p=(0.6, 0.3, 0.1))],
        "length": [("short", "medium", "long")[n] for n in random.choice(3, rows, p=(0.3, 0.5, 0.2))],
        "month": [f"2026-{n + 1:02}" for n in random.integers(0, 6, rows)],
    }


def worse_in(random, given, rows, points):
    """The evidence with a candidate that loses so many points of accuracy more on these rows, bool (rows)."""
    right = given.candidate.argmax(axis=1) == given.truth
    hit = rows & right & (random.random(len(right)) < points / max(1e-9, right[rows].mean()))
    candidate = given.candidate.copy()
    candidate[hit] = np.roll(candidate[hit], 1, axis=1)
    return replace(given, candidate=candidate)
