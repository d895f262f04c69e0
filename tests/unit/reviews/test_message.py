"""The publishing contract, message by message."""

import json
import time

import pytest

from reviews.errors import InvalidMessage
from reviews.message import parse_review
from reviews.record_value import MAX_NUMBER_CHARACTERS
from tests.unit.reviews.bad_input import ACCEPTED, REFUSED, message


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_a_review_is_refused_with_its_reason(name: str) -> None:
    raw, reason = REFUSED[name]
    with pytest.raises(InvalidMessage) as refused:
        parse_review(raw)
    assert refused.value.reason == reason
    assert str(refused.value).endswith(".")
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_only_odd_is_a_review(name: str) -> None:
    raw, expected = ACCEPTED[name]
    review = parse_review(raw).model_dump()
    assert review == review | {"id": "1"} | expected


def test_a_refusal_never_quotes_the_message() -> None:
    for field in ("id", "text", "product", "stars", "published_at"):
        with pytest.raises(InvalidMessage) as refused:
            parse_review(message(**{field: '["secret"]'}))
        assert "secret" not in str(refused.value)


def test_the_length_limit_counts_bytes_and_names_the_setting() -> None:
    raw = message(text='"ä"')
    assert parse_review(raw, max_bytes=len(raw)).text == "ä"
    with pytest.raises(InvalidMessage, match=r"consumer\.max_message_bytes") as refused:
        parse_review(raw, max_bytes=len(raw) - 1)
    assert refused.value.reason == "too_long"


@pytest.mark.parametrize("lead", range(0, 300, 7))
def test_a_huge_number_is_found_wherever_it_begins(lead: int) -> None:
    number = "1." + "0" * (MAX_NUMBER_CHARACTERS - 1)
    with pytest.raises(InvalidMessage, match="4,301 characters"):
        parse_review(message(other=" " * lead + number))
    assert parse_review(message(other=" " * lead + number[:-1])).id == "1"


@pytest.mark.parametrize("filling", ["7", "e", "7" * 4_299 + "x", "abcde ", "[", '\\"', "\\u0041", "NaN"])
def test_no_message_of_three_megabytes_takes_long(filling: str) -> None:
    raw = (
        json.dumps({"id": "1", "text": "x"}).encode()[:-2] + (filling * (3_000_000 // len(filling))).encode()
    )
    started = time.perf_counter()
    parse_review(raw + b'"}')
    assert time.perf_counter() - started < 2  # a square of the length would take minutes
