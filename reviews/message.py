"""The publishing contract: what a record on the reviews topic must look like to become a review."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, NoReturn

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from reviews.errors import InvalidMessage

MAX_ID_CHARACTERS = 256
MAX_NAME_CHARACTERS = 512
MAX_NUMBER_CHARACTERS = 4_300  # Python's own limit for reading whole numbers

_BOM = b"\xef\xbb\xbf"
# Every 256th byte is looked at: so long a number covers 16 of them in a row, and prose hardly ever does.
_STRIDE = 256
_HUGE_NUMBER = re.compile(rb"[-+.0-9eE]{%d}" % (MAX_NUMBER_CHARACTERS // _STRIDE))
# Printable to Python, yet nothing to see: fillers, the blank Braille cell, joiners, variation selectors.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | {
    chr(code) for code in range(0xFE00, 0xFE10)
}


def _is_visible(character: str) -> bool:
    return character.isprintable() and not character.isspace() and character not in _BLANK


def _no_nul(value: str) -> str:
    if "\x00" in value:
        raise ValueError("must not contain NUL (U+0000): PostgreSQL cannot store it")
    return value


def _visible(value: str) -> str:
    if not any(map(_is_visible, value)):
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


_Id = Annotated[
    str, Field(min_length=1, max_length=MAX_ID_CHARACTERS), AfterValidator(_no_nul), AfterValidator(_visible)
]
_Name = Annotated[str, Field(max_length=MAX_NAME_CHARACTERS), AfterValidator(_no_nul)]
_Text = Annotated[str, AfterValidator(_no_nul), AfterValidator(_visible)]
_Moment = Annotated[datetime, BeforeValidator(_iso_8601)]


class ReviewMessage(BaseModel):
    """A product review as a publisher sends it; unknown fields are ignored.

    Attributes:
        id: The publisher's name for the review; publishing it again replaces the current version.
        text: The body, with at least one visible character.
        product: What is reviewed.
        source: Where the review comes from.
        published_at: When it was published (UTC); where missing, Kafka's time of the record stands in.
        stars: The author's own rating.
    """

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, hide_input_in_errors=True)

    id: _Id
    text: _Text
    product: _Name | None = None
    source: _Name | None = None
    published_at: _Moment | None = None
    stars: Annotated[int, Field(ge=1, le=5)] | None = None


# What model_validate_json calls in the end; its own checks of its arguments are a fifth of the time.
_validator = TypeAdapter(ReviewMessage).validator
_validate_json: Callable[[bytes], ReviewMessage] = _validator.validate_json
_validate_fields: Callable[[dict[str, Any]], ReviewMessage] = _validator.validate_python


def parse_review(raw: bytes | None, max_bytes: int | None = None) -> ReviewMessage:
    """A review from the raw value of one Kafka record.

    Args:
        raw: UTF-8 JSON, with or without a byte order mark; None is a tombstone.
        max_bytes: Longer values are refused; None takes any length.

    Raises:
        InvalidMessage: With a reason to count by and a sentence that never quotes the input.
    """
    if raw is None:
        raise InvalidMessage(
            "tombstone", "The record has no value (a tombstone); a review needs a JSON object."
        )
    if max_bytes is not None and len(raw) > max_bytes:
        raise InvalidMessage(
            "too_long",
            f"The record has {len(raw):,} bytes; the limit is {max_bytes:,} (consumer.max_message_bytes).",
        )
    may_be_huge = len(raw) > MAX_NUMBER_CHARACTERS and _HUGE_NUMBER.search(raw[::_STRIDE])
    if may_be_huge or b"NaN" in raw or b"Infinity" in raw:
        _refuse_strange_numbers(raw)
    try:
        return _validate_json(raw.removeprefix(_BOM))
    except ValidationError as err:
        raise _explain(raw, err) from None


def review_from_fields(fields: dict[str, Any]) -> ReviewMessage | None:
    """A review from fields that somebody read already; None where they make none, for whatever reason.

    Saves the way through JSON where all is well; :func:`parse_review` of that JSON says what is wrong.
    """
    try:
        return _validate_fields(fields)
    except ValidationError:
        return None


def _refuse_strange_numbers(raw: bytes) -> None:
    """Refuse what pydantic's parser takes, also in fields nobody asked for, and other readers would not.

    NaN and Infinity are no JSON. Numbers are, however large: 1e999 or 2**70 in an unknown field harms nobody,
    since nobody reads it. But thousands of digits are no number of anybody's; pydantic refuses them in a
    whole number and lets them pass in a fraction, so that one limit for both is drawn here.
    """

    def refuse(constant: str) -> NoReturn:
        raise InvalidMessage("not_json", f"The value is not JSON: {constant} is no JSON number.")

    def check(number: str) -> int:
        if len(number) > MAX_NUMBER_CHARACTERS:
            raise InvalidMessage(
                "not_json",
                f"The value is not JSON that can be read: a number has {len(number):,} characters; "
                f"the limit is {MAX_NUMBER_CHARACTERS:,}.",
            )
        return 0  # the values are not needed

    try:
        json.loads(raw.removeprefix(_BOM), parse_constant=refuse, parse_int=check, parse_float=check)
    except (ValueError, RecursionError):
        return  # not JSON for another reason, which the parser that follows names


def _explain(raw: bytes, err: ValidationError) -> InvalidMessage:
    """The first error of a failed validation, as a reason and a sentence."""
    first: Any = err.errors(include_url=False, include_input=False, include_context=True)[0]
    kind = first["type"]
    if kind == "json_invalid":
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError as bad:
            return InvalidMessage("not_utf8", f"The value is not UTF-8: {bad.reason} at byte {bad.start}.")
        return InvalidMessage("not_json", f"The value is not JSON: {first['ctx']['error']}.")
    if not first["loc"]:
        return InvalidMessage(
            "not_an_object", 'The value must be a JSON object such as {"id": "1", "text": "Good."}.'
        )
    field = str(first["loc"][0])
    if kind == "missing":
        return InvalidMessage(f"missing_{field}", f"The field '{field}' is missing.")
    message = str(first["msg"]).removeprefix("Value error, ")
    return InvalidMessage(
        f"bad_{field}", f"The field '{field}' is not valid: {message[:1].lower()}{message[1:]}."
    )
