"""How values of other people's records become values of a review, as their source declares it.

Where nothing is declared, values are read as those of the reviews topic are (:mod:`reviews.fields`). All
functions raise ValueError with what a value must be, and never quote it.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Literal
from uuid import UUID

from pydantic_core import PydanticSerializationError, to_json

from reviews.fields import FEWEST_STARS, MOST_STARS, read_decimal, read_moment, read_written_moment

TimeUnit = Literal["iso8601", "seconds", "millis", "micros", "nanos"]
"""What a time is: text by ISO 8601, or a number of so small parts of a second since 1970."""

MAX_ATTRIBUTES_BYTES: Final = 16 * 1024
"""How long the attributes of one review may be, as JSON."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PER_SECOND = {"seconds": 1, "millis": 10**3, "micros": 10**6, "nanos": 10**9}
_MOST_DIGITS = 40  # of a number before its point; more mean nothing here, and cost memory
_HASH_DIGITS = 32  # 128 bits: two of 10**15 different reviews share one with a chance of 10**-9
_ROUNDED = 6


def time_reader(unit: TimeUnit) -> Callable[[object], datetime | None]:
    """Reads times of a declared unit, in UTC; None where there is none.

    Values that a decoder made times of are taken as they are.
    """
    if unit == "iso8601":
        return _read_iso_8601
    per_second = _PER_SECOND[unit]
    microseconds = 10**6 // per_second  # of one such part; 0 where it is a part of a microsecond

    def read(value: object) -> datetime | None:
        if type(value) is int and microseconds:  # as nearly every record has it, ahead of exact decimals
            return _since_1970(value * microseconds, unit)
        if value is None or isinstance(value, date):  # a datetime is a date
            return read_moment(value)
        number = _number(value)
        return None if number is None else _since_1970(math.floor(number * 10**6 / per_second), unit)

    return read


def _read_iso_8601(value: object) -> datetime | None:
    if value is None or isinstance(value, date):
        return read_moment(value)
    if not isinstance(value, str):
        raise ValueError("must be a text with a date and time by ISO 8601")  # noqa: TRY004  one kind of error
    return read_written_moment(value.strip()) if value.strip() else None


def _since_1970(microseconds: int, unit: TimeUnit) -> datetime:
    try:
        return _EPOCH + timedelta(0, 0, microseconds)
    except OverflowError:
        raise ValueError(f"must be {unit} since 1970 within the years 1 to 9999") from None


def stars_reader(scale: tuple[float, float]) -> Callable[[object], float | None]:
    """Reads ratings of a declared scale as numbers from 1 to 5; None where there is none.

    Args:
        scale: The worst and the best rating; they become 1 and 5, and what is between them in proportion.
    """
    worst, best = scale
    low, high = min(scale), max(scale)
    stars_a_point = (MOST_STARS - FEWEST_STARS) / (best - worst)

    def read(value: object) -> float | None:
        exact = value if type(value) is int else _number(value)
        if exact is None:
            return None
        number = float(exact)
        if not low <= number <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}")
        return round(FEWEST_STARS + (number - worst) * stars_a_point, _ROUNDED)

    return read


def _number(value: object) -> Decimal | None:
    """A finite number; None for blanks."""
    if value is None:
        return None
    if isinstance(value, str):
        return read_decimal(value)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError("must be a number")  # noqa: TRY004  one kind of error for the callers
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not _is_small(number):
        raise ValueError(f"must be a finite number of at most {_MOST_DIGITS} digits")
    return number


def _is_small(number: Decimal) -> bool:
    return number.is_finite() and number.adjusted() < _MOST_DIGITS


def join_texts(values: Sequence[object], separator: str) -> str | None:
    """The texts one after the other, without blank and missing ones; None where there is no other."""
    parts = []
    for value in values:
        text = read_plain(value)
        if text is None:
            continue
        if not isinstance(text, str):
            raise ValueError("must be joined from texts")  # noqa: TRY004  one kind of error for the callers
        if text.strip():
            parts.append(text)
    return separator.join(parts) if parts else None


def hash_values(values: Sequence[object]) -> str | None:
    """An id made of values: the same for the same ones; None where there is none of them.

    ``sha256:`` and the first 128 bits of SHA-256 of the values as a JSON list, in hexadecimal digits.
    """
    if all(value is None for value in values):
        return None
    digest = hashlib.sha256(_json(list(values))).hexdigest()
    return f"sha256:{digest[:_HASH_DIGITS]}"


def read_plain(value: object) -> object:
    """A value of a binary format as JSON has it: text for UUIDs and bytes, whole numbers for decimals."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise ValueError("must be UTF-8") from None
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Decimal) and _is_small(value) and value == value.to_integral_value():
        return int(value)
    return value


def write_attributes(attributes: dict[str, Any]) -> bytes | None:
    """Attributes as UTF-8 JSON, as PostgreSQL takes it; those without a value are left out, None for none.

    Times become text by ISO 8601, decimals and UUIDs text, bytes Base64, and NaN and infinities null.
    """
    present = {name: value for name, value in attributes.items() if value is not None}
    if not present:
        return None
    written = _json(present)
    if len(written) > MAX_ATTRIBUTES_BYTES:
        raise ValueError(f"must have at most {MAX_ATTRIBUTES_BYTES:,} bytes together as JSON")
    if b"\\u0000" in written:  # the escape, or its six characters behind an escaped backslash
        _refuse_nul(present)
    return written


def _json(value: object) -> bytes:
    try:
        return to_json(value, inf_nan_mode="null", bytes_mode="base64")
    except (PydanticSerializationError, ValueError, RecursionError):  # half of a surrogate pair, for one
        raise ValueError("must be values that JSON can hold") from None


def _refuse_nul(value: object) -> None:
    if isinstance(value, dict):
        for name, inner in value.items():
            _refuse_nul(name)
            _refuse_nul(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_nul(inner)
    elif isinstance(value, str) and "\x00" in value:
        raise ValueError("must not contain NUL (U+0000): PostgreSQL cannot store it")
