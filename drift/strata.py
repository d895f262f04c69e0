"""Stratification: which reference reviews a review is compared with.

A shop that sells coats in winter and gets its complaints on Monday mornings does not drift. So a review is
compared with reference reviews of its product, of its part of the day and of its part of the week; where the
reference has too few of these, with those of its product, then of its time, then with all. What remains is a
change *within* like reviews: post-stratification, as in Holt, Smith: Post Stratification (JRSS A 1979).

A reference of one Tuesday says nothing of nights at the weekend. Until it spans a week, reviews of hours
that it has not seen are not compared at all: nothing is known of them, so they do not count as drift.
"""

from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

import numpy as np
import numpy.typing as npt

from drift.rows import Floats, Integers, ReviewRows

_LEAST_ROWS = 20  # fewer reference rows say nothing of an hour, or of a group of like reviews
_HOURS_ABOUT = 2
_DAY_SECONDS = 86_400
_WEEK_SECONDS = 6 * _DAY_SECONDS  # any six days in a row have each hour of a working day and of a weekend
_MIDDLE = (0.01, 0.99)
_THURSDAY = 3  # 1 January 1970
_SATURDAY = 5
_SEASONS_DAYS = (1, 7)
_HOURS_A_BLOCK = 4
_TIMES = 2 * 24 // _HOURS_A_BLOCK


@dataclass(frozen=True, eq=False)
class Pair:
    """Two windows that are compared.

    Attributes:
        reference: The reviews since the promotion.
        window: The reviews in question.
        weights: float64 (reference rows), sum 1: make the reference as mixed as the window.
        seed: Of permutations and samples.
        by_class: Whether classes belong to the mix too: differences are then not due to class shares.
    """

    reference: ReviewRows
    window: ReviewRows
    weights: Floats
    seed: int = 0
    by_class: bool = False

    @classmethod
    def of(
        cls, reference: ReviewRows, window: ReviewRows, seed: int = 0, *, by_class: bool = False
    ) -> "Pair":
        """The pair, like with like.

        Args:
            reference: At least one row.
            window: At least one row.
            seed: Of permutations and samples.
            by_class: Compare within classes: differences are then not due to class shares.
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
        """Rows of the reference in the window's mix, and rows of the window: equally many, in rising order.

        Each row occurs at most once, for tests that shuffle both sides. With heavy weights a large sample
        without repetition would slip back to the reference's own mix, so no more than half of the rows that
        the reference is worth are drawn.
        """
        random = np.random.default_rng(self.seed)
        size = min(most, len(self.window), max(1, int(self.effective_rows / 2)), len(self.reference))
        size = min(size, int((self.weights > 0).sum()))
        one = random.choice(len(self.reference), size, replace=False, p=self.weights)
        return np.sort(one), np.sort(random.choice(len(self.window), size, replace=False))


def effective_rows(weights: Floats) -> float:
    """Kish's effective sample size, (Σ w)² / Σ w²: Survey Sampling (1965), page 430."""
    return float(weights.sum() ** 2 / np.maximum(1e-300, (weights**2).sum()))


class Strata:
    """Groups of like reviews, made of a reference.

    Args:
        reference: The reviews that others are compared with; at least one.
        by_class: Whether only reviews with the same most probable class are alike: what then still differs is
            no matter of class shares.
    """

    def __init__(self, reference: ReviewRows, *, by_class: bool = False) -> None:
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

    def of(self, rows: ReviewRows) -> Integers:
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
            chosen: int64: the reference rows to compare with, possibly repeated.
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

    def weights(self, rows: ReviewRows) -> Floats:
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

    def _codes(self, rows: ReviewRows) -> list[Integers]:
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


def _level(codes: Integers, first: int, least: int) -> _Level:
    found, place, sizes = np.unique(codes, return_inverse=True, return_counts=True)
    kept = (sizes >= least) & (found >= 0)
    number = np.full(len(found), -1, np.int64)
    number[kept] = np.arange(kept.sum())
    return _Level(found[kept], number[place], sizes[kept], first)


@dataclass(frozen=True, slots=True, eq=False)
class SeenHours:
    """Which hours of the week a reference knows.

    Attributes:
        hours: bool (48): those that it has at least 20 reviews of, within two hours.
        saw_week: Whether a week passed in it, by the times of publishing or of scoring. What comes at other
            hours is then new.
    """

    hours: npt.NDArray[np.bool_]
    saw_week: bool

    @classmethod
    def of(cls, reference: ReviewRows) -> "SeenHours":
        """The hours that these rows know."""
        counts = np.bincount(hour_of_week(reference.published), minlength=48).reshape(2, 24)
        about = range(-_HOURS_ABOUT, _HOURS_ABOUT + 1)
        near = sum((np.roll(counts, shift, axis=1) for shift in about), np.zeros_like(counts))
        times = (reference.published, reference.scored // 1_000_000)
        saw_week = len(reference) > 0 and max(map(_length, times)) >= _WEEK_SECONDS
        return cls((near >= _LEAST_ROWS).ravel(), saw_week)

    def cover(self, rows: ReviewRows) -> npt.NDArray[np.bool_]:
        """Bool (rows): which may be compared with the reference."""
        return np.asarray(self.saw_week | self.hours[hour_of_week(rows.published)])


def longest_season(passed: timedelta, most_days: int) -> timedelta:
    """The longest of a day, a week and ``most_days`` that has passed; 0 before the first of them.

    Args:
        passed: The time since the promotion.
        most_days: No longer ones.
    """
    seasons = [days for days in (*_SEASONS_DAYS, most_days) if days <= min(most_days, passed.days)]
    return timedelta(days=max(seasons, default=0))


def hour_of_week(published: Integers) -> Integers:
    """int64 (rows) in 0 to 47: the hour (UTC), 0 to 23 on working days, 24 to 47 at the weekend."""
    hours = published // 3600
    is_weekend = (hours // 24 + _THURSDAY) % 7 >= _SATURDAY
    return np.asarray(is_weekend * 24 + hours % 24, np.int64)


def time_of_week(published: Integers) -> Integers:
    """int64 (rows) in 0 to 11: the four-hour block of the day, on working days or at the weekend (UTC)."""
    return hour_of_week(published) // _HOURS_A_BLOCK


def _length(seconds: Integers) -> float:
    """How long the times last, but for a few outliers."""
    first, last = np.quantile(seconds, _MIDDLE)
    return float(last - first)
