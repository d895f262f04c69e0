"""Like with like: which reference reviews a review may be compared with.

A shop that sells coats in winter and gets its complaints on Monday mornings does not drift. So a review is
compared with reference reviews of its product, of its part of the day and of its part of the week; where the
reference has too few of these, with those of its product, then of its time, then with all. What remains is a
change *within* like reviews: post-stratification, as in Holt, Smith: Post Stratification (JRSS A 1979).
"""

from dataclasses import dataclass

import numpy as np

from drift.rows import Floats, Integers, Rows
from drift.seen_hours import hour_of_week

_LEAST_ROWS = 20  # fewer reference rows say nothing of a group
_HOURS_A_BLOCK = 4
_TIMES = 2 * 24 // _HOURS_A_BLOCK


def time_of_week(published: Integers) -> Integers:
    """int64 (rows) in 0 to 11: the four-hour block of the day, on working days or at the weekend (UTC)."""
    return hour_of_week(published) // _HOURS_A_BLOCK


@dataclass(frozen=True, slots=True)
class _Level:
    """Groups of one fineness.

    Attributes:
        codes: int64 (groups), rising: those with enough reference rows.
        members: int64 (reference rows): the group of each; -1 where it has too few.
        sizes: int64 (groups): reference rows of each.
        first: The number of the first group among the groups of all levels.
    """

    codes: Integers
    members: Integers
    sizes: Integers
    first: int


class Strata:
    """Groups of like reviews, made of a reference.

    Args:
        reference: The reviews that others are compared with; at least one.
        by_class: Whether only reviews with the same most probable class are alike: what then still differs is
            no matter of class shares.
    """

    def __init__(self, reference: Rows, *, by_class: bool = False) -> None:
        self._by_class = by_class
        names = sorted({product for product in reference.products if product is not None})
        self._products = {name: number for number, name in enumerate(names)}
        self._levels: list[_Level] = []
        codes = self._codes(reference)
        self.count = 0
        for depth, of_level in enumerate(codes, start=1):
            # The last level holds everything, so that each review finds a group.
            least = 1 if depth == len(codes) else _LEAST_ROWS
            self._levels.append(_level(of_level, self.count, least))
            self.count += len(self._levels[-1].codes)

    def of(self, rows: Rows) -> Integers:
        """int64 (rows): the group of each row, the finest that the reference knows enough of."""
        found = np.full(len(rows), -1, np.int64)
        for level, codes in zip(self._levels, self._codes(rows), strict=True):
            if not len(level.codes):
                continue
            place = np.minimum(np.searchsorted(level.codes, codes), len(level.codes) - 1)
            is_new = (found < 0) & (level.codes[place] == codes)
            found[is_new] = level.first + place[is_new]
        return found

    def histograms(self, bins: Integers, count: int, prior_rows: float, chosen: Integers) -> Floats:
        """float64 (groups, bins): how a binned feature is spread in the reference rows of each group.

        Small groups lean on all rows: as if ``prior_rows`` rows with the spread of all were among them.

        Args:
            bins: int64 (reference rows) in [0, count).
            count: How many bins.
            prior_rows: How much the spread of all rows counts.
            chosen: int64: the reference rows that are looked at, some perhaps several times.
        """
        everything = np.bincount(bins[chosen], minlength=count) + 0.5
        prior = prior_rows * everything / everything.sum()
        spread = np.tile(prior, (self.count, 1))
        for level in self._levels:
            members = level.members[chosen]
            inside = members >= 0
            cells = (level.first + members[inside]) * count + bins[chosen[inside]]
            spread += np.bincount(cells, minlength=spread.size).reshape(spread.shape)
        return np.asarray(spread / spread.sum(axis=1, keepdims=True))

    def weights(self, rows: Rows) -> Floats:
        """float64 (reference rows), sum 1: the reference in the mix of these rows.

        Each row spreads its share evenly over the reference rows of its group.
        """
        share = np.bincount(self.of(rows), minlength=self.count) / max(1, len(rows))
        total = np.zeros(len(self._levels[0].members))
        for level in self._levels:
            inside = level.members >= 0
            each = share[level.first : level.first + len(level.sizes)] / np.maximum(1, level.sizes)
            total[inside] += each[level.members[inside]]
        return np.asarray(total / total.sum())

    def _codes(self, rows: Rows) -> list[Integers]:
        """For each level, finest first, int64 (rows): a number that like reviews share."""
        products = np.fromiter(
            (self._products.get(name, -1) if name is not None else -1 for name in rows.products),
            np.int64,
            len(rows),
        )
        times = time_of_week(rows.published)
        base = rows.labels if self._by_class else np.zeros(len(rows), np.int64)
        room = len(self._products) + 1
        known = products >= 0
        by_product = np.where(known, base * room + products, -1)
        both = np.where(known, by_product * _TIMES + times, -1)
        levels = [both, by_product, base * _TIMES + times, base]
        return [*levels, np.zeros(len(rows), np.int64)]


def _level(codes: Integers, first: int, least: int) -> _Level:
    found, place, sizes = np.unique(codes, return_inverse=True, return_counts=True)
    kept = (sizes >= least) & (found >= 0)
    number = np.full(len(found), -1, np.int64)
    number[kept] = np.arange(kept.sum())
    return _Level(found[kept], number[place], sizes[kept], first)


def effective_rows(weights: Floats) -> float:
    """How many equally weighted rows say as much: (Σ w)² / Σ w². Kish: Survey Sampling (1965), page 430."""
    return float(weights.sum() ** 2 / np.maximum(1e-300, (weights**2).sum()))
