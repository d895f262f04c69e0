"""Fields that messages share: how values are read, and their limits.

Values come from JSON, with types, and from tables of text, without. One value means one thing in both: a
number written as text is that number where a number is meant, and a whole number is a name where a name is
meant. Nothing is taken that could mean two things; docs/messages.md has the rules in a table.
"""

import math
import re
import unicodedata
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from reviews.errors import WrongUse

MAX_ID_CHARACTERS = 256
MAX_NAME_CHARACTERS = 512
MAX_REASON_CHARACTERS = 2_000
FEWEST_STARS, MOST_STARS = 1, 5
MODEL_PREFIX = "model:"
"""Begins the name of an annotator that is a model: its answers train at most, and are nobody's truth."""
LONGEST_ANSWER_SECONDS = 600.0

# Printable to Python, yet nothing to see: fillers, the blank Braille cell, joiners, variation selectors.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | {
    chr(code) for code in range(0xFE00, 0xFE10)
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DECIMAL = re.compile(r"[0-9]{1,19}([.,][0-9]{1,19})?")
# A date, and a time behind a T or a blank: datetime.fromisoformat alone takes any character there, so that
# 2026-01-31+02:00 would be two in the morning.
_ISO_8601 = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8}|[0-9]{4}-?W[0-9]{2}(-?[0-9])?)([Tt ].+)?")
_NO_MOMENT = (
    "must be a date and time by ISO 8601 within the years 1 to 9999 (UTC), or seconds or milliseconds "
    "since 1970"
)
_DATE_DIGITS = 8
# 202601311200 would be milliseconds of 1976, and is a date and time without its dashes.
_FIRST_COUNTED = datetime(1980, 1, 1, tzinfo=UTC)
# How many of them make a second, by the digits before the point: up to the year 2286 no two units meet.
_UNITS = {9: 1, 10: 1, 12: 10**3, 13: 10**3, 15: 10**6, 16: 10**6, 18: 10**9, 19: 10**9}


def is_visible(character: str) -> bool:
    """Whether there is anything to see of a character."""
    return character.isprintable() and not character.isspace() and character not in _BLANK


def checked_reason(reason: str) -> str:
    """Why a person decided something, in a sentence that can be kept.

    Raises:
        WrongUse: If it is empty, too long, or holds a NUL, which PostgreSQL cannot store.
    """
    if not any(map(is_visible, reason)) or "\x00" in reason:
        raise WrongUse("The reason is empty: say in a sentence why.")
    if len(reason) > MAX_REASON_CHARACTERS:
        raise WrongUse(f"The reason is longer than {MAX_REASON_CHARACTERS:,} characters: say it shorter.")
    return reason.strip()


def _no_nul(value: str) -> str:
    if "\x00" in value:
        raise ValueError("must not contain NUL (U+0000): PostgreSQL cannot store it")
    return value


def _visible(value: str) -> str:
    if not any(map(is_visible, _no_nul(value))):
        raise ValueError("must contain at least one visible character")
    return value


def _name(value: object) -> object:
    """A name as text; publishers number their products and reviews, and the number is the name."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ValueError("must be a text or a whole number")


def _name_or_none(value: object) -> object:
    """The same; an empty text is no name, as an empty cell of a table is none."""
    if isinstance(value, str):
        return value or None
    return None if value is None else _name(value)


def _annotator(value: str) -> str:
    """The name of who answered; one that only looks like a model's would count as a person's."""
    if looks_like_model(value) and not is_model(value):
        raise ValueError(
            f"must be '{MODEL_PREFIX}NAME' where a model answers, with a name and in this writing"
        )
    return value


def is_model(annotator: str) -> bool:
    """Whether answers of this annotator are a model's."""
    return annotator.startswith(MODEL_PREFIX) and any(map(is_visible, annotator[len(MODEL_PREFIX) :]))


def looks_like_model(name: str) -> bool:
    """Whether a name begins as a model's does, in whatever writing; no person may have such a name."""
    return unicodedata.normalize("NFKC", name).strip().casefold().startswith(MODEL_PREFIX)


def bounded_seconds(seconds: float | None) -> float | None:
    """How long an answer took, as it is stored: who took longer than ten minutes did something else too."""
    return None if seconds is None else min(seconds, LONGEST_ANSWER_SECONDS)


def _seconds(value: object) -> float | None:
    """Seconds as a number, bounded; an empty text is none."""
    if isinstance(value, str):
        value = read_decimal(value)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError("must be a number of seconds")  # noqa: TRY004  pydantic expects a ValueError
    if not 0 <= value < float("inf"):
        raise ValueError("must be a number of seconds, 0 or more")
    return bounded_seconds(float(value))


def read_stars(value: object) -> int | float | None:
    """Stars as a number, whole where it is whole; None where there are none.

    Raises:
        ValueError: If it is none.
    """
    if type(value) is int and FEWEST_STARS <= value <= MOST_STARS:
        return value  # what nearly every message has, ahead of all questions
    if isinstance(value, str):
        value = read_decimal(value)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError("must be a number")  # noqa: TRY004  pydantic expects a ValueError
    if not FEWEST_STARS <= value <= MOST_STARS:
        raise ValueError(f"must be a number from {FEWEST_STARS} to {MOST_STARS}")
    return int(value) if value == int(value) else float(value)


def read_decimal(text: str) -> Decimal | None:
    """The number of a text, with a point or a comma; None for blanks.

    Raises:
        ValueError: If it is none.
    """
    if not (stripped := text.strip()):
        return None
    if not _DECIMAL.fullmatch(stripped):
        raise ValueError("must be a number")
    return Decimal(stripped.replace(",", "."))


def read_moment(value: object) -> datetime | None:
    """A moment in UTC; no zone means UTC, and nothing but blanks means none.

    Raises:
        ValueError: If it is no moment, or could be two.
    """
    if value is None:
        return None
    try:
        if isinstance(value, str):
            if value[10:11] == "T":  # as nearly every message has it
                return _in_utc(datetime.fromisoformat(value.rstrip()))
            return _written_moment(value.strip()) if value.strip() else None
        if isinstance(value, datetime):
            return _in_utc(value)
        if isinstance(value, date):
            return datetime.combine(value, time(), UTC)
        if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
            return _counted_moment(Decimal(repr(value)) if isinstance(value, float) else Decimal(value))
    except (ValueError, OverflowError):
        pass
    raise ValueError(_NO_MOMENT)


def read_written_moment(text: str) -> datetime:
    """A date and time by ISO 8601 in UTC; no zone means UTC.

    Raises:
        ValueError: If it is none.
    """
    if _ISO_8601.fullmatch(text):
        try:
            return _in_utc(datetime.fromisoformat(text))
        except (ValueError, OverflowError):
            pass
    raise ValueError("must be a date and time by ISO 8601 within the years 1 to 9999")


def _written_moment(text: str) -> datetime:
    if _ISO_8601.fullmatch(text):
        return _in_utc(datetime.fromisoformat(text))
    if _DECIMAL.fullmatch(text):
        return _counted_moment(Decimal(text.replace(",", ".")))
    raise ValueError


def _counted_moment(number: Decimal) -> datetime:
    """A date of eight digits, or what was counted since 1970, in the unit that its size tells.

    Raises:
        ValueError: If it is neither.
    """
    if not number.is_finite() or number < 0:
        raise ValueError
    whole = int(number)
    digits = len(str(whole))
    if digits == _DATE_DIGITS and number == whole:
        return _in_utc(datetime.fromisoformat(str(whole)))
    if digits not in _UNITS:
        raise ValueError
    moment = _EPOCH + timedelta(microseconds=math.floor(number * 10**6 / _UNITS[digits]))
    if moment < _FIRST_COUNTED:
        raise ValueError
    return moment


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


ShortText = Annotated[str, Field(min_length=1, max_length=MAX_ID_CHARACTERS), AfterValidator(_visible)]
"""A text as short as a name, with something to see."""
Id = Annotated[ShortText, BeforeValidator(_name)]
"""What names one thing: a review, an annotator, a task. Whole numbers become text."""
Annotator = Annotated[Id, AfterValidator(_annotator)]
"""Who answered: a person or a program by any name, or a model as ``model:NAME``."""
Seconds = Annotated[float | None, BeforeValidator(_seconds)]
"""How long an answer took, at most ten minutes; None where nobody measured it."""
Name = Annotated[str, Field(max_length=MAX_NAME_CHARACTERS), AfterValidator(_no_nul)]
"""A name that may be empty."""
OptionalName = Annotated[Name | None, BeforeValidator(_name_or_none)]
"""A name that may be missing; an empty one is. Whole numbers become text."""
Text = Annotated[str, AfterValidator(_visible)]
"""A text of any length with something to see."""
Stars = Annotated[int | float | None, BeforeValidator(read_stars)]
"""A number of stars, whole or not; None where there is none."""
Moment = Annotated[datetime | None, BeforeValidator(read_moment)]
"""A moment in UTC, as people and programs write it; None where there is none."""
