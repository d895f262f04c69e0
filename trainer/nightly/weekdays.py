"""The weekdays of a cron expression, by name: numbers mean one thing to cron and another to the scheduler.

Cron counts from Sunday, which is 0 and 7; APScheduler 3 from Monday. Both know the names.
"""

import re

_NAMES = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DAY = rf"[0-7]|{'|'.join(_NAMES)}"
_PART = re.compile(rf"(?:\*|(?P<first>{_DAY})(?:-(?P<last>{_DAY}))?)(?:/(?P<step>[1-9]))?", re.IGNORECASE)


def by_name(field: str) -> str:
    """The same days as names in a list; all of them are ``*``.

    Args:
        field: The fifth of a cron expression: days, ranges and ``*``, each with a step or without, in a list.

    Raises:
        ValueError: If it is no such thing.
    """
    days = {day % 7 for part in field.split(",") for day in _days(part)}
    return ",".join(name for day, name in enumerate(_NAMES) if day in days) if len(days) < 7 else "*"


def _days(part: str) -> range:
    found = _PART.fullmatch(part)
    if found is None:
        raise ValueError(f"the weekday '{part}' is none: 0 to 7, both Sunday, or sun to sat")
    step = int(found["step"] or 1)
    if found["first"] is None:
        return range(0, 7, step)
    first = _number(found["first"])
    if found["last"] is None:
        return range(first, 7 if found["step"] else first + 1, step)
    last = _number(found["last"])
    if last == 0 < first:
        last = 7  # a week that ends on Sunday
    if last < first:
        raise ValueError(f"the weekdays '{part}' go backwards")
    return range(first, last + 1, step)


def _number(day: str) -> int:
    return int(day) if day.isdecimal() else _NAMES.index(day.lower())
