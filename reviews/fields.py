"""The fields that messages share, with the bounds that keep out what cannot be stored or meant."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

MAX_ID_CHARACTERS = 256
MAX_NAME_CHARACTERS = 512

# Printable to Python, yet nothing to see: fillers, the blank Braille cell, joiners, variation selectors.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | {
    chr(code) for code in range(0xFE00, 0xFE10)
}


def is_visible(character: str) -> bool:
    """Whether there is anything to see of a character."""
    return character.isprintable() and not character.isspace() and character not in _BLANK


def _no_nul(value: str) -> str:
    if "\x00" in value:
        raise ValueError("must not contain NUL (U+0000): PostgreSQL cannot store it")
    return value


def _visible(value: str) -> str:
    if not any(map(is_visible, value)):
        raise ValueError("must contain at least one visible character")
    return value


def _iso_8601(value: object) -> object:
    """Parse ISO 8601; no zone means UTC. Pydantic alone would take "2024" for seconds since 1970."""
    if not isinstance(value, str):
        return value
    try:
        moment = datetime.fromisoformat(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("must be an ISO 8601 date and time within the years 1 to 9999 (UTC)") from None


Id = Annotated[
    str, Field(min_length=1, max_length=MAX_ID_CHARACTERS), AfterValidator(_no_nul), AfterValidator(_visible)
]
"""What names one thing: a review, an annotator, a task."""
Name = Annotated[str, Field(max_length=MAX_NAME_CHARACTERS), AfterValidator(_no_nul)]
"""A name that may be empty."""
Text = Annotated[str, AfterValidator(_no_nul), AfterValidator(_visible)]
"""A text of any length with something to see."""
Moment = Annotated[datetime, BeforeValidator(_iso_8601)]
"""A moment in UTC, from ISO 8601."""
