"""The score of the online detector: sliding windows of several widths, with a stated false-alarm rate.

Each review becomes a bin of four features: the length of its text, its share of unknown words, the most
probable class, the confidence in it. Of the latest 30, 120, 480 … reviews it is counted how many fell into
each bin, and how many should have by the reference reviews they are alike to (:mod:`drift.strata`); text
and confidence are compared within their class, so that more negative reviews alone do not change the texts.
The distance is Pearson's chi-square, standardised; narrow windows find a break soon, wide ones a slow
change: a window-limited generalised likelihood ratio test.

Lai: Information bounds and quick detection of parameter changes in stochastic systems (IEEE Transactions on
Information Theory 1998). The threshold is that whose exceedance by chance comes once in so many reviews,
found by playing the detector on bootstrap samples of its own reference (:mod:`drift.online`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from drift.rows import Floats, Integers, ReviewRows
from drift.strata import SeenHours, Strata
from drift.words import KnownWords

FEATURES = ("text length", "unknown words", "classes", "confidence")
WIDTHS = (30, 120, 480, 1920)
"""How many of the latest reviews are looked at."""
STEP_REVIEWS = 10
"""Every so many reviews the windows are looked at."""

_Numbers = npt.NDArray[np.integer | np.floating]
_BINS = 8
_PRIOR_ROWS = 50.0
_LEAST_EXPECTED = 0.5


Expectation = tuple[Floats, ...]
"""For each feature float64 (groups, bins): how a reference spreads it in each group of like reviews."""


@dataclass(frozen=True, slots=True, eq=False)
class Binned:
    """Reviews as the detector sees them.

    Attributes:
        bins: int64 (features, rows): where each review falls.
        groups: int64 (2, rows): its groups of like reviews, those of any class and those of its class; -1
            for an hour that the reference has not seen: the review then counts for nothing.
    """

    bins: Integers
    groups: Integers

    def take(self, chosen: Integers) -> "Binned":
        """These rows."""
        return Binned(self.bins[:, chosen], self.groups[:, chosen])

    def then(self, later: "Binned") -> "Binned":
        """These rows and the later ones behind them."""
        return Binned(
            np.concatenate([self.bins, later.bins], axis=1),
            np.concatenate([self.groups, later.groups], axis=1),
        )


class Binning:
    """How reviews become bins; made of a reference.

    Args:
        reference: The reviews since the adapter was promoted.

    Attributes:
        strata: Groups of like reviews: of any class, and of the same class.
        sizes: How many bins each feature has.
        reference: The reference itself as bins.
    """

    def __init__(self, reference: ReviewRows) -> None:
        self._vocabulary = KnownWords(reference.texts)
        self.strata = (Strata(reference), Strata(reference, by_class=True))
        self._seen = SeenHours.of(reference)
        self._edges: list[npt.NDArray[np.float64]] = []
        numbers = self._numbers(reference, of_reference=True)
        for values in numbers:
            self._edges.append(np.unique(np.quantile(values, np.arange(1, _BINS) / _BINS)))
        length, unknown, confidence = (len(edges) + 1 for edges in self._edges)
        self.sizes = (length, unknown, len(reference.classes), confidence)
        self.reference = self._binned(reference, numbers)

    def of(self, rows: ReviewRows) -> Binned:
        """The reviews as bins and groups."""
        return self._binned(rows, self._numbers(rows))

    def _binned(self, rows: ReviewRows, numbers: Sequence[_Numbers]) -> Binned:
        length, unknown, confidence = (
            np.searchsorted(edges, values, side="left")
            for edges, values in zip(self._edges, numbers, strict=True)
        )
        bins = np.stack([length, unknown, rows.labels, confidence]).astype(np.int64)
        groups = np.stack([strata.of(rows) for strata in self.strata])
        return Binned(bins, np.where(self._seen.cover(rows), groups, -1))

    def expectation(self, chosen: Integers) -> Expectation:
        """Expected counts by the reference, or by a bootstrap sample of its rows.

        Args:
            chosen: int64: rows of the reference, possibly repeated.
        """
        return tuple(
            self.strata[group].histograms(self.reference.bins[feature], size, _PRIOR_ROWS, chosen)
            for feature, (group, size) in enumerate(zip(GROUP_OF_FEATURE, self.sizes, strict=True))
        )

    def _numbers(self, rows: ReviewRows, *, of_reference: bool = False) -> Sequence[_Numbers]:
        unknown = self._vocabulary.unknown_shares(rows.texts, of_reference=of_reference)
        return rows.lengths, unknown, rows.confidence


GROUP_OF_FEATURE = (1, 1, 0, 1)
"""Which groups a feature is compared within: 0 of any class, 1 of its class."""


def scores(binned: Binned, expectation: Expectation, widths: Sequence[int], steps: Integers) -> Floats:
    """float64 (features, widths, steps): standardised chi-square of the windows that end at these steps.

    Args:
        binned: Reviews in order.
        expectation: What is held against them.
        widths: How many reviews a window has.
        steps: int64 (steps): the windows end before these rows; those that begin before the first row have a
            score of 0.
    """
    found = np.zeros((len(expectation), len(widths), len(steps)))
    for feature, spread in enumerate(expectation):
        groups = binned.groups[GROUP_OF_FEATURE[feature]]
        counts = groups >= 0
        wanted = spread[groups] * counts[:, None]  # (rows, bins)
        excess = -wanted
        excess[np.arange(len(wanted)), binned.bins[feature]] += counts
        both = np.zeros((2, len(wanted) + 1, spread.shape[1]))
        np.cumsum(excess, axis=0, out=both[0, 1:])
        np.cumsum(wanted, axis=0, out=both[1, 1:])
        for place, width in enumerate(widths):
            whole = steps >= width
            ends = steps[whole]
            difference, expected = both[:, ends] - both[:, ends - width]  # (steps, bins) each
            chi_square = (difference**2 / np.maximum(expected, _LEAST_EXPECTED)).sum(axis=1)
            freedom = max(1, spread.shape[1] - 1)
            found[feature, place, whole] = (chi_square - freedom) / (2 * freedom) ** 0.5
    return found
