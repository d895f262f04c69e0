"""Days and weeks: which of them have passed, and which hours a reference has seen of them.

A reference of one Tuesday says nothing of nights at the weekend. Until it spans a week, reviews of hours
that it has not seen are not compared at all: nothing is known of them, so they are no drift.
"""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt

from drift.rows import Integers, Rows

_LEAST_ROWS = 20  # fewer reference rows say nothing of an hour, as of a group of like reviews
_HOURS_ABOUT = 2
_DAY_SECONDS = 86_400
_WEEK_SECONDS = 6 * _DAY_SECONDS  # any six days in a row have each hour of a working day and of a weekend
_MIDDLE = (0.01, 0.99)
_THURSDAY = 3  # 1 January 1970
_SATURDAY = 5
_SEASONS_DAYS = (1, 7)


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
    def of(cls, reference: Rows) -> "SeenHours":
        """The hours that these rows know."""
        counts = np.bincount(hour_of_week(reference.published), minlength=48).reshape(2, 24)
        about = range(-_HOURS_ABOUT, _HOURS_ABOUT + 1)
        near = sum((np.roll(counts, shift, axis=1) for shift in about), np.zeros_like(counts))
        times = (reference.published, reference.scored // 1_000_000)
        saw_week = len(reference) > 0 and max(map(_length, times)) >= _WEEK_SECONDS
        return cls((near >= _LEAST_ROWS).ravel(), saw_week)

    def cover(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Bool (rows): which may be compared with the reference."""
        return np.asarray(self.saw_week | self.hours[hour_of_week(rows.published)])


def _length(seconds: Integers) -> float:
    """How long the times last, but for a few that lie far off."""
    first, last = np.quantile(seconds, _MIDDLE)
    return float(last - first)
