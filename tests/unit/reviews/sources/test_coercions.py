"""Declared values: one value means one thing, whatever its type, and every error is a ValueError."""

import hashlib
import json
import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reviews.sources.coercions import (
    MAX_ATTRIBUTES_BYTES,
    hash_values,
    join_texts,
    read_plain,
    stars_reader,
    time_reader,
    write_attributes,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
PER_SECOND = {"seconds": 1, "millis": 10**3, "micros": 10**6}
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.decimals()
    | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        ("2026-01-31T12:00:00Z", "iso8601"),
        (" 2026-01-31T14:00:00+02:00 ", "iso8601"),
        ("20260131T120000", "iso8601"),
        (1769860800, "seconds"),
        ("1769860800", "seconds"),
        (1769860800.0, "seconds"),
        (Decimal(1769860800), "seconds"),
        (1769860800000, "millis"),
        (1769860800000000, "micros"),
        (1769860800000000000, "nanos"),
        (NOON, "micros"),
        (NOON.replace(tzinfo=None), "iso8601"),
    ],
)
def test_a_time_is_read_by_its_declared_unit(value: object, unit: Any) -> None:
    assert time_reader(unit)(value) == NOON


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        (1769860800, "iso8601"),
        ("1769860800", "iso8601"),
        ("yesterday", "iso8601"),
        ("2026-01-31T12:00:00Z", "millis"),
        (True, "seconds"),
        ([], "seconds"),
        (10**40, "micros"),
        (1e300, "seconds"),
        (Decimal("1E+999999"), "seconds"),
        (float("nan"), "millis"),
    ],
)
def test_a_time_of_another_unit_is_refused(value: object, unit: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        time_reader(unit)(value)


@given(
    st.datetimes(EPOCH.replace(tzinfo=None), NOON.replace(year=2200, tzinfo=None)),
    st.sampled_from(["seconds", "millis", "micros"]),
)
def test_a_counted_time_is_the_one_that_was_counted(moment: datetime, unit: Any) -> None:
    aware = moment.replace(tzinfo=UTC)
    counted = (aware - EPOCH) // timedelta(seconds=1) * PER_SECOND[unit]
    assert time_reader(unit)(counted) == time_reader(unit)(str(counted)) == aware.replace(microsecond=0)


@given(ANYTHING, st.sampled_from(["iso8601", "seconds", "millis", "micros", "nanos"]))
def test_any_value_is_a_time_none_or_a_value_error(value: object, unit: Any) -> None:
    try:
        found = time_reader(unit)(value)
    except ValueError:
        return
    assert found is None or found.tzinfo is UTC


@pytest.mark.parametrize(
    ("value", "scale", "stars"),
    [
        (1, (1, 10), 1),
        (10, (1, 10), 5),
        (5.5, (1, 10), 3),
        ("7", (1, 10), 3.666667),
        (Decimal(0), (0, 100), 1),
        (75, (0, 100), 4),
        (1, (6, 1), 5),  # the best grade of a German school
        (6, (6, 1), 1),
        (None, (1, 10), None),
        (" ", (1, 10), None),
    ],
)
def test_a_rating_is_scaled_in_proportion(
    value: object, scale: tuple[float, float], stars: float | None
) -> None:
    assert stars_reader(scale)(value) == stars


@pytest.mark.parametrize("value", [0, 11, "ten", True, [], math.inf, math.nan])
def test_what_is_no_rating_of_the_scale_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        stars_reader((1, 10))(value)


@given(st.floats(1, 10))
def test_scaled_stars_are_stars(value: float) -> None:
    assert 1 <= (stars_reader((1, 10))(value) or 0) <= 5


def test_texts_are_joined_without_those_that_are_blank() -> None:
    assert join_texts(["Nice", None, " ", b"It fits."], "\n\n") == "Nice\n\nIt fits."
    assert join_texts([None, ""], "\n\n") is None
    with pytest.raises(ValueError, match="texts"):
        join_texts(["Nice", 5], "\n\n")


@given(st.lists(st.none() | st.integers() | st.text(), min_size=1, max_size=4))
def test_a_hash_is_the_same_for_the_same_values_and_none_for_none(values: list[object]) -> None:
    found = hash_values(values)
    assert found == hash_values(list(values))
    assert (found is None) == all(value is None for value in values)


def test_a_hash_tells_values_and_their_borders_apart() -> None:
    assert (
        len(
            {
                hash_values(values)
                for values in (["ab", "c"], ["a", "bc"], ["a", "b", "c"], [1], ["1"], [None, "1"])
            }
        )
        == 6
    )
    digest = hashlib.sha256(b'["u1","B001"]').hexdigest()
    assert hash_values(["u1", "B001"]) == f"sha256:{digest[:32]}"


def test_values_of_binary_formats_become_those_of_json() -> None:
    uuid = UUID("00000000-0000-0000-0000-000000000001")
    found = [read_plain(value) for value in (uuid, b"abc", Decimal("7.0"), Decimal("7.5"), 5, None)]
    assert found == [str(uuid), "abc", 7, Decimal("7.5"), 5, None]
    with pytest.raises(ValueError, match="UTF-8"):
        read_plain(b"\xff")


def test_attributes_are_json_without_what_is_missing() -> None:
    written = write_attributes({"a": None, "b": "é", "c": [1, {"d": True}], "e": math.nan, "f": NOON})
    assert json.loads(written or b"") == {
        "b": "é",
        "c": [1, {"d": True}],
        "e": None,
        "f": "2026-01-31T12:00:00Z",
    }
    assert write_attributes({"a": None}) is None


@pytest.mark.parametrize("value", ["a\0b", {"a\0": 1}, ["\0"], "x" * MAX_ATTRIBUTES_BYTES, object()])
def test_attributes_that_cannot_be_stored_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="must"):
        write_attributes({"a": value})


def test_an_escaped_backslash_before_u0000_is_no_nul() -> None:
    assert json.loads(write_attributes({"a": "\\u0000"}) or b"") == {"a": "\\u0000"}


@given(st.dictionaries(st.text(max_size=5), ANYTHING, max_size=4))
def test_any_attributes_are_json_of_a_bounded_size_or_a_value_error(attributes: dict[str, Any]) -> None:
    try:
        written = write_attributes(attributes)
    except ValueError:
        return
    if written is not None:
        assert len(written) <= MAX_ATTRIBUTES_BYTES
        json.loads(written)
