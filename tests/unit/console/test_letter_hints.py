"""Hints on dead letters: what is wrong is named, and a corrected value is offered only if it can be read."""

import gzip
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from console.letter_hints import EXAMINED_BYTES, hints
from reviews.dead_letter import StoredLetter
from reviews.label import parse_label
from reviews.message import parse_review
from reviews.record_value import CutBytes

GOOD = {"id": "1", "text": "Gut, größer."}


def _letter(raw: bytes | None, stage: Any = "parse") -> StoredLetter:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return StoredLetter(1, "reviews", "id", 0, 1, stage, "reason", "Wrong.", raw, None, "waiting", None, at)


def _written(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


CORRECTED = {
    "gzip": (gzip.compress(_written(GOOD)), "gzip"),
    "UTF-16": (json.dumps(GOOD, ensure_ascii=False).encode("utf-16"), "UTF-16"),
    "UTF-16 without a mark": (json.dumps(GOOD, ensure_ascii=False).encode("utf-16-le"), "UTF-16"),
    "Windows-1252": (json.dumps(GOOD, ensure_ascii=False).encode("cp1252"), "Windows-1252"),
    "schema registry": (b"\0\0\0\0\x07" + _written(GOOD), "schema 7"),
    "written twice": (_written(json.dumps(GOOD)), "written twice"),
    "a list": (_written([GOOD]), "list of 1"),
    "a comma too many": (b'{"id": "1", "text": "Good.",}', "comma"),
    "cut": (b'{"id": "1", "text": "Goo', "too early"),
    "an envelope": (_written({"schema": {}, "payload": GOOD}), "'payload'"),
    "other names": (_written({"review_id": "1", "Body": "Good."}), "'review_id' as 'id', 'Body' as 'text'"),
    "stars": (_written(GOOD | {"stars": 6}), "'stars'"),
}


@pytest.mark.parametrize("name", CORRECTED)
def test_a_value_that_can_be_mended_by_rule_is_offered_and_can_be_read(name: str) -> None:
    raw, words = CORRECTED[name]
    first = next(hint for hint in hints(_letter(raw), parse_review) if hint.corrected is not None)
    assert words in first.text
    assert parse_review(first.corrected).id == "1"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (None, "tombstone"),
        (b"", "empty"),
        (b"{'id': '1', 'text': 'Good.'}", "Python"),
        (b'{"id": "1", "text": "a"}\n{"id": "2", "text": "b"}', "several JSON values"),
        (b"just words", "plain text"),
        (b"[" * 100_000, "too deeply"),
        (b'{"id": "1", "text": "a" "b"}', "character 25"),
        (b" " * 300_000, "too many"),
        (CutBytes(b"{", 5_000_000, "ab" * 32), "first 1 of 5,000,000"),
    ],
)
def test_what_a_person_has_to_decide_is_named_without_a_mended_value(raw: bytes | None, words: str) -> None:
    found = hints(_letter(raw), parse_review)
    assert any(words in hint.text for hint in found)
    assert all(hint.corrected is None for hint in found)


@pytest.mark.parametrize(
    ("stage", "words"), [("score", "model failed"), ("store", "database"), ("parse", "by this version")]
)
def test_a_sound_value_is_said_to_be_sound(stage: str, words: str) -> None:
    (hint,) = hints(_letter(_written(GOOD), stage), parse_review)
    assert words in hint.text


def test_labels_are_read_as_labels() -> None:
    raw = _written({"review": "1", "task": "sentiment", "sentiment": "good", "user": "ann"})
    found = [hint for hint in hints(_letter(raw, "label"), parse_label) if hint.corrected is not None]
    assert json.loads(found[0].corrected or b"")["label"] == "good"


def test_an_object_of_very_many_fields_is_examined_in_bounded_time() -> None:
    raw = _written({f"f{number}": number for number in range(15_000)})
    assert 200_000 < len(raw) < EXAMINED_BYTES
    assert all(hint.corrected is None for hint in hints(_letter(raw), parse_review))
