"""The raw value of a record: truncated if it is too long, and parsed as one JSON object."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, NoReturn, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import SchemaValidator

from reviews.errors import InvalidMessage

KEPT_BYTES: Final = 64 * 1024
"""How much of a value that is too long is kept."""


class CutBytes(bytes):
    """The beginning of a value that was too long to be kept.

    Attributes:
        full_bytes: How many bytes the whole value has.
        sha256: The SHA-256 of the whole value, in hexadecimal digits.
    """

    full_bytes: int
    sha256: str

    def __new__(cls, beginning: bytes, full_bytes: int, sha256: str) -> "CutBytes":
        """The beginning of a value, and what identifies the whole."""
        value = super().__new__(cls, beginning)
        value.full_bytes = full_bytes
        value.sha256 = sha256
        return value


def cut(value: bytes, kept_bytes: int = KEPT_BYTES) -> bytes:
    """The beginning of a value, with what identifies the whole; the value itself where that is all of it."""
    if len(value) <= kept_bytes:
        return value
    sha256 = value.sha256 if isinstance(value, CutBytes) else hashlib.sha256(value).hexdigest()
    return CutBytes(value[:kept_bytes], full_bytes(value), sha256)


class CutHeaders(list[tuple[str, bytes | None]]):
    """The first headers of a record that has too many, or too long ones, to be held.

    Attributes:
        left_out: How many others it has.
    """

    def __init__(self, headers: Iterable[tuple[str, bytes | None]], left_out: int) -> None:
        super().__init__(headers)
        self.left_out = left_out


def full_bytes(value: bytes | None) -> int:
    """How many bytes the whole value has, also where it is cut; 0 for none."""
    if isinstance(value, CutBytes):
        return value.full_bytes
    return 0 if value is None else len(value)


MAX_NUMBER_CHARACTERS = 4_300  # Python's own limit for reading whole numbers

_BOM = b"\xef\xbb\xbf"
# Every 256th byte is looked at: so long a number covers 16 of them in a row, and prose hardly ever does.
_STRIDE = 256
_HUGE_NUMBER = re.compile(rb"[-+.0-9eE]{%d}" % (MAX_NUMBER_CHARACTERS // _STRIDE))

_Message = TypeVar("_Message")


class RecordParser(Generic[_Message]):
    """Reads the raw values of one topic's records.

    Args:
        model: What a value has to be; or a validator of that.
        what: That in words, such as "a review".
        example: A value that is one, as JSON.
    """

    def __init__(self, model: type[_Message] | SchemaValidator, what: str, example: str) -> None:
        # What model_validate_json calls in the end; its own checks of its arguments are a fifth of the time.
        validator = model if isinstance(model, SchemaValidator) else TypeAdapter(model).validator
        self._validate_json: Callable[[bytes], _Message] = validator.validate_json
        self._validate_fields: Callable[[object], _Message] = validator.validate_python
        self._what = what
        self._example = example

    def parse(self, raw: bytes | None, max_bytes: int | None = None) -> _Message:
        """The message in the raw value of one Kafka record.

        Args:
            raw: UTF-8 JSON, with or without a byte order mark; refused if it is cut, None is a tombstone.
            max_bytes: Longer values are refused; None takes any length.

        Raises:
            InvalidMessage: With a reason to count by and a sentence that never quotes the input.
        """
        if raw is None:
            raise InvalidMessage(
                "tombstone", f"The record has no value (a tombstone); {self._what} needs a JSON object."
            )
        if isinstance(raw, CutBytes) or (max_bytes is not None and len(raw) > max_bytes):
            raise too_long(raw, max_bytes)
        may_be_huge = len(raw) > MAX_NUMBER_CHARACTERS and _HUGE_NUMBER.search(raw[::_STRIDE])
        if may_be_huge or b"NaN" in raw or b"Infinity" in raw:
            _refuse_strange_numbers(raw)
        try:
            return self._validate_json(raw.removeprefix(_BOM))
        except ValidationError as err:
            raise _explain(raw, err, self._example) from None

    def from_fields(self, fields: object) -> _Message:
        """The message of fields that were read already.

        Raises:
            InvalidMessage: As :meth:`parse` does.
        """
        try:
            return self._validate_fields(fields)
        except ValidationError as err:
            raise _explain(b"", err, self._example) from None


def too_long(raw: bytes, max_bytes: int | None) -> InvalidMessage:
    """The refusal of a value that is cut, or longer than the limit."""
    limit = "" if max_bytes is None else f"; the limit is {max_bytes:,} (consumer.max_message_bytes)"
    kept = f", and its first {len(raw):,} are kept" if isinstance(raw, CutBytes) else ""
    return InvalidMessage("too_long", f"The record has {full_bytes(raw):,} bytes{limit}{kept}.")


def _refuse_strange_numbers(raw: bytes) -> None:
    """Refuse what pydantic's parser takes, also in fields nobody asked for, and other readers would not.

    NaN and Infinity are no JSON. Numbers are, however large: 1e999 or 2**70 in an unknown field does no harm,
    since it is not read. But a number of thousands of digits is a mistake; pydantic refuses them in a
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


def _explain(raw: bytes, err: ValidationError, example: str) -> InvalidMessage:
    """The first error of a failed validation, as a reason and a sentence."""
    first: Any = err.errors(include_url=False, include_input=False, include_context=True)[0]
    kind = first["type"]
    if kind == "json_invalid":
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError as bad:
            return InvalidMessage("not_utf8", f"The value is not UTF-8: {bad.reason} at byte {bad.start}.")
        # In files, a value has a line of its own: within the value, the first one is not worth a word.
        why = first["ctx"]["error"].replace(" at line 1 column ", " at character ")
        return InvalidMessage("not_json", f"The value is not JSON: {why}.")
    if not first["loc"]:
        return InvalidMessage("not_an_object", f"The value must be a JSON object such as {example}.")
    field = str(first["loc"][0])
    if kind == "missing":
        return InvalidMessage(f"missing_{field}", f"The field '{field}' is missing.")
    message = str(first["msg"]).removeprefix("Value error, ")
    return InvalidMessage(
        f"bad_{field}", f"The field '{field}' is not valid: {message[:1].lower()}{message[1:]}."
    )
