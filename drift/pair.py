"""A window beside its reference, the reference in the window's mix."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from drift.rows import Floats, Integers, Rows
from drift.seasonal import Strata, effective_rows


@dataclass(frozen=True, eq=False)
class Pair:
    """Two windows that are compared.

    Attributes:
        reference: The reviews since the promotion.
        window: The reviews in question.
        weights: float64 (reference rows), sum 1: make the reference as mixed as the window.
        seed: Of permutations and samples.
        by_class: Whether the mix is one of classes too: what then differs is no matter of class shares.
    """

    reference: Rows
    window: Rows
    weights: Floats
    seed: int = 0
    by_class: bool = False

    @classmethod
    def of(cls, reference: Rows, window: Rows, seed: int = 0, *, by_class: bool = False) -> "Pair":
        """The pair, like with like.

        Args:
            reference: At least one row.
            window: At least one row.
            seed: Of permutations and samples.
            by_class: Compare within classes: what then differs is no matter of class shares.
        """
        weights = Strata(reference, by_class=by_class).weights(window)
        return cls(reference, window, weights, seed, by_class)

    @cached_property
    def effective_rows(self) -> float:
        """How many equally weighted rows the reference is worth."""
        return effective_rows(self.weights)

    def reference_counts(self, bins: Integers, count: int) -> Floats:
        """float64 (count): how often each bin is met in the reference, scaled to the rows it is worth.

        Args:
            bins: int64 (reference rows) in [0, count).
            count: How many bins.
        """
        return np.asarray(np.bincount(bins, self.weights, count) * self.effective_rows)

    def samples(self, most: int) -> tuple[Integers, Integers]:
        """Rising rows of the reference in the window's mix, and rows of the window: as many, at most so many.

        Each row stands at most once, for tests that shuffle both sides. With heavy weights a large sample
        without repetition would slip back to the reference's own mix, so no more than half of the rows that
        the reference is worth are drawn.
        """
        random = np.random.default_rng(self.seed)
        size = min(most, len(self.window), max(1, int(self.effective_rows / 2)), len(self.reference))
        size = min(size, int((self.weights > 0).sum()))
        one = random.choice(len(self.reference), size, replace=False, p=self.weights)
        return np.sort(one), np.sort(random.choice(len(self.window), size, replace=False))
