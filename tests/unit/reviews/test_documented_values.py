"""Each line of the tables in docs/messages.md is true."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from reviews.errors import InvalidMessage
from reviews.label import Vocabulary, parse_label, resolve_label
from reviews.message import parse_review, review_from_fields

_PAGE = Path(__file__).parents[3] / "docs" / "messages.md"
_CODE = re.compile(r"`([^`]+)`")
_TASK = Vocabulary(("negative", "neutral", "positive"))


class Line(NamedTuple):
    """One value of one field, as the page has it."""

    field: str
    value: str
    outcome: str

    @property
    def refusal(self) -> str | None:
        """The reason of the dead letter that the page promises."""
        return _CODE.findall(self.outcome)[0] if self.outcome.startswith("a dead letter") else None


def _lines(page: str) -> Iterator[Line]:
    for row in page.splitlines():
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        if row.startswith("| `") and len(cells) == 3 and cells[1].startswith("`"):
            for field in _CODE.findall(cells[0]):
                yield from (Line(field, value, cells[2]) for value in _CODE.findall(cells[1]))


_REVIEWS, _LABELS = _PAGE.read_text().split("## Labels:")
_REVIEW_LINES, _LABEL_LINES = list(_lines(_REVIEWS)), list(_lines(_LABELS))


def _message(known: dict[str, str], line: Line) -> bytes:
    fields = {**known, line.field: line.value}
    return ("{" + ", ".join(f'"{name}": {value}' for name, value in fields.items()) + "}").encode()


def _review(line: Line) -> Any:
    message = _message({"id": '"1"', "text": '"Good."'}, line)
    return parse_review(message).model_dump(mode="json")[line.field]


def _label(line: Line) -> Any:
    message = parse_label(_message({"review_id": '"1"', "label": '"negative"', "annotator": '"a"'}, line))
    resolve_label(message.label, _TASK)
    return message.model_dump(mode="json")[line.field]


def _check(read: Callable[[Line], Any], line: Line) -> None:
    if line.refusal is not None:
        with pytest.raises(InvalidMessage) as refused:
            read(line)
        assert refused.value.reason == line.refusal
    else:
        assert read(line) == json.loads(_CODE.findall(line.outcome)[0])


def test_the_page_has_the_tables_that_are_tested() -> None:
    assert {line.field for line in _REVIEW_LINES} == {
        "id",
        "text",
        "product",
        "source",
        "published_at",
        "stars",
    }
    assert {line.field for line in _LABEL_LINES} == {"review_id", "label", "annotator", "task", "labelled_at"}


@pytest.mark.parametrize("line", _REVIEW_LINES, ids=lambda line: f"{line.field}: {line.value}")
def test_a_value_of_a_review_is_read_as_the_page_says(line: Line) -> None:
    _check(_review, line)


@pytest.mark.parametrize(
    "line",
    [line for line in _LABEL_LINES if line.refusal or line.outcome.startswith("`")],
    ids=lambda line: f"{line.field}: {line.value}",
)
def test_a_value_of_a_label_is_read_as_the_page_says(line: Line) -> None:
    _check(_label, line)


def test_a_number_of_a_label_and_what_is_no_answer_are_read_as_the_page_says() -> None:
    found: dict[str, list[str | None]] = {}
    for line in _LABEL_LINES:
        if line.field == "label" and line.refusal is None and not line.outcome.startswith("`"):
            label = parse_label(_message({"review_id": '"1"', "annotator": '"a"'}, line)).label
            found.setdefault(line.outcome, []).append(resolve_label(label, _TASK))
    assert list(found.values()) == [["neutral"] * 4, [None] * 2]


@pytest.mark.parametrize(
    "line",
    [line for line in _REVIEW_LINES if line.refusal is None and line.value[0] not in '"n'],
    ids=lambda line: f"{line.field}: {line.value}",
)
def test_a_number_means_the_same_as_the_cell_of_a_table_that_has_its_digits(line: Line) -> None:
    cells = {"id": "1", "text": "Good.", line.field: line.value}
    message = review_from_fields(cells)
    assert message is not None
    assert message.model_dump(mode="json")[line.field] == _review(line)
