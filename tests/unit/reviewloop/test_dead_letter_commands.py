"""What the commands about dead letters make of what a person types."""

import pytest
from typer.testing import CliRunner

from reviewloop.cli import app
from reviewloop.cli.arguments import parse_place
from reviews.errors import WrongUse


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("reviews:0:42", ("reviews", 0, 42)),
        ("a.b-c_d:2147483647:1099511627775", ("a.b-c_d", 2**31 - 1, 2**40 - 1)),
    ],
)
def test_a_place_is_topic_partition_and_offset(place: str, expected: tuple[str, int, int]) -> None:
    assert parse_place(place) == expected


@pytest.mark.parametrize(
    "place",
    ["", "reviews", "reviews:0", ":0:1", "reviews:0:", "reviews:-1:0", "reviews:0:1:2", "reviews:x:0",
     "reviews:0:1099511627776", "reviews:2147483648:0", "reviews:٣:0", "reviews:0:" + "9" * 5000],
)  # fmt: skip
def test_what_is_no_place_is_refused_with_an_example(place: str) -> None:
    with pytest.raises(WrongUse, match="reviews:0:42"):
        parse_place(place)


def _error(*arguments: str) -> BaseException | None:
    return CliRunner().invoke(app, ["dead-letters", *arguments]).exception


def test_a_mended_value_belongs_to_one_letter() -> None:
    for chosen in (["--all"], ["--error", "not_json"], ["r:0:1", "r:0:2"], []):
        error = _error("replay", *chosen, "--value-file", "x.json")
        assert isinstance(error, WrongUse)
        assert "one dead letter" in str(error)


def test_a_value_file_that_is_not_there_is_wrong_use() -> None:
    error = _error("replay", "r:0:1", "--value-file", "missing.json")
    assert isinstance(error, WrongUse)
    assert "missing.json cannot be read" in str(error)


def test_a_discard_needs_a_reason_that_can_be_stored() -> None:
    for reason in ("", "  ", "a\x00b"):
        assert isinstance(_error("discard", "--all", "--reason", reason), WrongUse)
