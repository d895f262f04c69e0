"""Rows of a table in any format: named columns, row numbers and errors."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, NoReturn

from pydantic import ConfigDict, TypeAdapter, ValidationError

from reviews.errors import InvalidMessage
from reviews.fields import Text

MAX_ROW_CHARACTERS = 16 * 1024 * 1024
"""Longer rows are refused, so that a file's size does not decide about memory (for JSON lines: bytes)."""
_SHOWN_MISTAKES = 20
_NOT_UTF8 = "The row is not UTF-8: save the file as UTF-8, or name its encoding (--encoding)."
_TEXT = TypeAdapter(Text, config=ConfigDict(strict=True, hide_input_in_errors=True))


class BrokenTable(InvalidMessage):
    """A row after which nothing can be read, since the beginning of the next one is unknown."""


class UnreadableTable(Exception):
    """A file is no table of its format; the message completes "FILE cannot be read: …"."""


class Column(NamedTuple):
    """A column to be read.

    Attributes:
        name: As the header or the fields of the file have it.
        option: What names another one on the command line.
        is_required: Whether a file without it is refused.
    """

    name: str
    option: str
    is_required: bool = True


@dataclass(frozen=True)
class FieldColumns:
    """Which column holds which field: a subclass declares its fields, each with the column's usual name.

    Attributes:
        named: Those that somebody named: a table without one of these columns is refused.
    """

    required: ClassVar[str]
    """The field that every table has to have."""
    named: frozenset[str] = field(default=frozenset(), kw_only=True)

    @cached_property
    def names(self) -> dict[str, str]:
        """The columns' names by field."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "named"}

    def wanted(self) -> list[Column]:
        """The columns, each with its option ``--FIELD-column``."""
        required = {self.required, *self.named}
        return [
            Column(name, f"--{one.replace('_', '-')}-column", is_required=one in required)
            for one, name in self.names.items()
        ]


@dataclass(slots=True)
class TableRow:
    """One row.

    Attributes:
        number: Of the line on which it begins (the first line of a file is 1); of the row itself, counted
            from 1, in formats without lines.
        unit: What is counted: ``line`` or ``row``.
        found: Its values by column, as far as they were asked for; or what is wrong with it; None where
            ``raw`` was not parsed yet.
        raw: The row as UTF-8 JSON, where the file has it so.
    """

    number: int
    unit: str
    found: Mapping[str, Any] | InvalidMessage | None
    raw: bytes | None = None

    @property
    def place(self) -> str:
        """Where it is, such as ``line 7``."""
        return f"{self.unit} {self.number}"

    @property
    def values(self) -> Mapping[str, Any]:
        """Its values by column; an empty cell of a CSV is None.

        Raises:
            InvalidMessage: If the row is none; a :class:`BrokenTable` is the last row of its table.
        """
        if self.found is None:
            self.found = _parsed(self.raw or b"")
        if isinstance(self.found, InvalidMessage):
            raise self.found
        return self.found


class Mistake(NamedTuple):
    """A row that cannot be used.

    Attributes:
        place: Where it is, such as ``line 7``.
        error: What is wrong, and what to do.
    """

    place: str
    error: InvalidMessage

    def __str__(self) -> str:
        return f"{self.place}: {self.error}"


def shown_mistakes(mistakes: Sequence[Mistake], most: int = _SHOWN_MISTAKES) -> list[str]:
    """The first mistakes as lines of text, and how many more there are."""
    shown = [str(mistake) for mistake in mistakes[:most]]
    more = len(mistakes) - len(shown)
    return [*shown, f"… and {more:,} more"] if more else shown


def json_object(value: object) -> Mapping[str, Any] | InvalidMessage:
    """The value if it is an object, else what is wrong with it."""
    if isinstance(value, dict):
        return value
    return InvalidMessage("not_an_object", "The row must be a JSON object with a field for each column.")


def refuse_constant(name: str) -> NoReturn:
    """For ``json``'s ``parse_constant``: NaN and Infinity are no JSON, although Python reads them.

    Raises:
        ValueError: Always.
    """
    raise ValueError(f"{name} is no JSON number")


def finite_number(written: str) -> float | str:
    """For ``json``'s ``parse_float``: what no float reaches, such as 1e999, stays the text that it is."""
    number = float(written)
    return number if math.isfinite(number) else written


def text_of(values: Mapping[str, Any], column: str) -> str:
    """The text in a column, if it is one that a model can read and a database store.

    Raises:
        InvalidMessage: If it is none.
    """
    text = values.get(column)
    if text is None:
        raise InvalidMessage("missing_text", f"There is no text in '{column}'.")
    try:
        if isinstance(text, str):
            text.encode()
        valid: str = _TEXT.validate_python(text)
    except UnicodeEncodeError:
        raise InvalidMessage("bad_text", "The text is not valid: it has half a surrogate pair.") from None
    except ValidationError as err:
        reason = err.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        said = f"The text is not valid: {reason[:1].lower()}{reason[1:]}."
        raise InvalidMessage("bad_text", said) from None
    return valid


def unique_names(names: Sequence[str]) -> list[str]:
    """The names of all columns, numbered where one comes again."""
    unique: dict[str, None] = {}
    for name in names:
        candidate, number = name, 2
        while candidate in unique:
            candidate, number = f"{name}_{number}", number + 1
        unique[candidate] = None
    return list(unique)


def check_once(names: Sequence[str], columns: Sequence[Column]) -> None:
    """Make sure that no wanted column comes twice.

    Raises:
        UnreadableTable: If one does.
    """
    twice = [column.name for column in columns if names.count(column.name) > 1]
    if twice:
        raise UnreadableTable(f"it has the column {', '.join(map(repr, twice))} more than once")


def sound_values(values: dict[str, Any], columns: Sequence[Column]) -> Mapping[str, Any] | InvalidMessage:
    """The values, or what is wrong where a wanted one holds bytes that are not UTF-8.

    Args:
        values: By column; ``surrogateescape`` kept what could not be decoded. In columns that are not asked
            for, such bytes become visible escapes: they stop nothing.
        columns: Those that are wanted.
    """
    for name, cell in values.items():
        if not isinstance(cell, str) or cell.isascii():
            continue
        try:
            cell.encode()
        except UnicodeEncodeError:
            if any(column.name == name for column in columns):
                return InvalidMessage("not_utf8", _NOT_UTF8)
            values[name] = cell.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return values


def _parsed(raw: bytes) -> Mapping[str, Any] | InvalidMessage:
    try:
        return json_object(json.loads(raw, parse_constant=refuse_constant, parse_float=finite_number))
    except UnicodeDecodeError as err:
        return InvalidMessage("not_utf8", f"The row is not UTF-8: {err.reason} at byte {err.start}.")
    except (ValueError, RecursionError) as err:
        return InvalidMessage("not_json", f"The row is not JSON: {json_reason(err)}.")


def json_reason(err: Exception) -> str:
    """Why ``json`` refused something, without quoting it."""
    if isinstance(err, json.JSONDecodeError):
        return f"{err.msg.removesuffix(' at')} at character {err.colno}"
    return "it is nested too deeply" if isinstance(err, RecursionError) else str(err).split(":", 1)[0]
