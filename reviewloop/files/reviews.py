"""Reads reviews from tables; every row becomes a message or an error."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import PydanticSerializationError, to_json

from reviews.errors import InvalidMessage
from reviews.message import ReviewMessage, parse_review, review_from_fields
from trainer.data.table_rows import FieldColumns, Mistake, TableRow
from trainer.data.table_source import AS_FOUND, STANDARD_INPUT, Form
from trainer.data.tables import checked_rows, open_table

_ID_NAME_CHARACTERS = 100  # of the file's name in an id that is made here
_ID_DIGEST_BYTES = 10


@dataclass(frozen=True)
class Columns(FieldColumns):
    """Which column or field holds what.

    Attributes:
        id: The publisher's name for a review.
        text: Its text, which every file has to have.
        product: What is reviewed.
        source: Where it comes from.
        published_at: When it was published.
        stars: The author's own rating.
    """

    id: str = "id"
    text: str = "text"
    product: str = "product"
    source: str = "source"
    published_at: str = "published_at"
    stars: str = "stars"
    required = "text"


class FileRow(NamedTuple):
    """One row.

    Attributes:
        place: Where it is, such as ``line 7``.
        message: The review; None where it is none.
        raw: The message as JSON; None where the row is not even one.
        mistake: What is wrong with it.
        has_made_id: Whether its id was made here.
    """

    place: str
    message: ReviewMessage | None
    raw: bytes | None
    mistake: Mistake | None
    has_made_id: bool = False


class ReviewFile(NamedTuple):
    """A table of reviews that is being read.

    Attributes:
        form: How it is read, with what was found out.
        rows: Its rows.
    """

    form: Form
    rows: Iterator[FileRow]


@contextmanager
def open_reviews(
    file: Path, columns: Columns, form: Form = AS_FOUND, max_bytes: int | None = None
) -> Iterator[ReviewFile]:
    """The rows of a table as reviews; ``-`` is standard input.

    A row without an id gets one made of where it is (file and line) and of what it says: two rows have the
    same only if both are the same, and publishing a file again replaces its own reviews.

    Args:
        file: Which.
        columns: Where each value is.
        form: What is known of the file.
        max_bytes: Longer messages are mistakes; None takes any length.

    Raises:
        WrongUse: Also from the rows, if the file cannot be read or lacks a column.
    """
    wanted = columns.wanted()
    with open_table(file, wanted, form) as table:
        # Rows that have the contract's own names go out as they are, unparsed.
        is_as_published = columns == Columns()
        rows = table.rows if is_as_published else checked_rows(table, wanted)
        ids = _Ids(file)
        reviews = (_file_row(row, columns, ids, as_published=is_as_published) for row in rows)
        yield ReviewFile(table.form, (_bounded(review, max_bytes) for review in reviews))


class _Ids:
    """Makes ids for the rows of one file."""

    def __init__(self, file: Path) -> None:
        is_file = file != STANDARD_INPUT
        self._place = str(file.resolve()) if is_file else "-"
        self._name = (file.name if is_file else "stdin")[:_ID_NAME_CHARACTERS]

    def make(self, row: TableRow, values: Mapping[str, Any]) -> str:
        content = json.dumps([self._place, row.number, sorted(values.items())], default=str)
        digest = hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()
        name = self._name.encode("utf-8", "replace").decode()
        return f"{name}:{row.number}:{digest[: 2 * _ID_DIGEST_BYTES]}"


def _file_row(row: TableRow, columns: Columns, ids: _Ids, *, as_published: bool) -> FileRow:
    if row.raw is not None and as_published:
        found = _parsed(row.place, row.raw)
        if found.mistake is None or found.mistake.error.reason not in ("missing_id", "bad_id"):
            return found
    try:
        values = row.values
        given = (
            values if as_published else {name: values.get(column) for name, column in columns.names.items()}
        )
        present = {name: value for name, value in given.items() if value is not None}
        if "id" in present:
            return _from_fields(row.place, present)
        if "id" in columns.named and columns.id not in values:
            raise InvalidMessage("missing_id", f"The field '{columns.id}' is missing.")  # noqa: TRY301  told below
    except InvalidMessage as err:
        return FileRow(row.place, None, row.raw, Mistake(row.place, err))
    made = _from_fields(row.place, {"id": ids.make(row, present), **present})
    return made._replace(has_made_id=made.message is not None)


def _from_fields(place: str, values: dict[str, Any]) -> FileRow:
    """A row without the way through JSON and back, where nothing is wrong with it."""
    message = review_from_fields(values)
    try:
        if message is not None:
            values["id"] = message.id
            if message.stars is not None:
                values["stars"] = message.stars
            return FileRow(place, message, to_json(values), None)
    except PydanticSerializationError:
        pass  # half a surrogate pair, which only ASCII JSON can hold
    return _parsed(place, json.dumps(values).encode())  # which says what is wrong


def _bounded(row: FileRow, max_bytes: int | None) -> FileRow:
    if row.message is None or row.raw is None or max_bytes is None or len(row.raw) <= max_bytes:
        return row
    return _parsed(row.place, row.raw, max_bytes)


def _parsed(place: str, raw: bytes, max_bytes: int | None = None) -> FileRow:
    try:
        return FileRow(place, parse_review(raw, max_bytes), raw, None)
    except InvalidMessage as err:
        return FileRow(place, None, raw, Mistake(place, err))
