"""Times as people give them to a command or a page: ISO 8601, or an age."""

import re
from datetime import UTC, datetime, timedelta

from reviews.errors import WrongUse
from reviews.fields import read_moment

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_moment(value: str | None, now: datetime | None = None) -> datetime | None:
    """An ISO 8601 time (UTC where it has no zone), or an age such as ``90m``, ``24h``, ``7d`` or ``2w``.

    Raises:
        WrongUse: If it is neither.
    """
    if value is None:
        return None
    try:
        if age := re.fullmatch(r"([0-9]{1,6})([mhdw])", value):
            return (now or datetime.now(UTC)) - timedelta(**{_UNITS[age[2]]: int(age[1])})
        moment = read_moment(value)
    except (ValueError, OverflowError):  # also an age of more years than there were
        moment = None
    if moment is None:
        raise WrongUse(
            f"'{value}' is not a time: give ISO 8601 such as 2026-01-31T12:00, or an age such as 90m or 7d."
        )
    return moment
