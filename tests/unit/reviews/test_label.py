"""The contract of the labels topic, message by message and whatever it is given."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reviews.errors import InvalidMessage
from reviews.fields import MAX_ID_CHARACTERS
from reviews.label import MAX_LABELS, Vocabulary, parse_label, resolve_label

HUGE = "9" * 5_000
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
VOCABULARY = Vocabulary(("negative", "neutral", "positive"), frozenset({"mixed"}))


def _message(**fields: str) -> bytes:
    """A message of raw JSON values: what is given replaces a good label's fields."""
    good = {
        "review_id": '"1"',
        "label": '"positive"',
        "annotator": '"ann"',
        "labelled_at": '"2026-03-01T12:00:00Z"',
    }
    merged = {**good, **fields}
    return ("{" + ", ".join(f'"{name}": {value}' for name, value in merged.items()) + "}").encode(
        "utf-8", "surrogatepass"
    )


REFUSED: dict[str, tuple[bytes | None, str]] = {
    "a tombstone": (None, "tombstone"),
    "not JSON": (b"positive", "not_json"),
    "a list": (b"[]", "not_an_object"),
    "invalid UTF-8": (b'{"review_id": "\xff"}', "not_utf8"),
    "a lone surrogate": (_message(annotator=r'"\ud800"'), "not_json"),
    "a review": (b'{"id": "1", "text": "Good."}', "missing_review_id"),
    "a missing label": (
        b'{"review_id": "1", "annotator": "a", "labelled_at": "2026-03-01"}',
        "missing_label",
    ),
    "a missing annotator": (b'{"review_id": "1", "label": null, "labelled_at": ""}', "missing_annotator"),
    "NUL in the label": (_message(label=r'"\u0000"'), "bad_label"),
    "NUL in the annotator": (_message(annotator=r'"a\u0000"'), "bad_annotator"),
    "NUL in the review's id": (_message(review_id=r'"\u0000"'), "bad_review_id"),
    "NUL in the task": (_message(task=r'"\u0000"'), "bad_task"),
    "an empty label": (_message(label='""'), "bad_label"),
    "an invisible label": (_message(label=r'"\u200b"'), "bad_label"),
    "a label that is true": (_message(label="true"), "bad_label"),
    "a label that is a list": (_message(label='["positive"]'), "bad_label"),
    "a label of half": (_message(label="0.5"), "bad_label"),
    "a label below 0": (_message(label="-1"), "bad_label"),
    "a label of 1,000": (_message(label="1000"), "bad_label"),
    "a label of 2**70": (_message(label=str(2**70)), "bad_label"),
    "a label of 257 characters": (_message(label=f'"{"x" * 257}"'), "bad_label"),
    "an annotator of 257 characters": (_message(annotator=f'"{"x" * 257}"'), "bad_annotator"),
    "an annotator with a fraction": (_message(annotator="1.5"), "bad_annotator"),
    "an empty task": (_message(task='""'), "bad_task"),
    "a task that is null": (_message(task="null"), "bad_task"),
    "5,000 digits": (_message(label=HUGE), "not_json"),
    "NaN": (_message(label="NaN"), "not_json"),
    "100,000 levels of nesting": (_message(other="[" * 100_000 + "]" * 100_000), "not_json"),
    "a year": (_message(labelled_at="2026"), "bad_labelled_at"),
    "the 30th of February": (_message(labelled_at='"2026-02-30"'), "bad_labelled_at"),
    "a moment past the year 9999": (_message(labelled_at='"9999-12-31T23:59:59-01:00"'), "bad_labelled_at"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_a_label_is_refused_with_its_reason(name: str) -> None:
    raw, reason = REFUSED[name]
    with pytest.raises(InvalidMessage) as refused:
        parse_label(raw)
    assert refused.value.reason == reason
    assert str(refused.value).endswith(".")
    assert len(str(refused.value)) < 250


def test_a_message_too_long_names_the_setting() -> None:
    with pytest.raises(InvalidMessage, match=r"consumer\.max_message_bytes"):
        parse_label(_message(), max_bytes=10)


def test_what_is_left_out_has_its_default_and_the_rest_is_as_it_came() -> None:
    label = parse_label(b"\xef\xbb\xbf" + _message(id='"x"', other="1e999"))
    assert label.model_dump() == {
        "id": "x", "task": "sentiment", "review_id": "1", "label": "positive", "annotator": "ann",
        "labelled_at": AT, "seconds": None,
    }  # fmt: skip
    assert parse_label(_message(labelled_at='"2026-03-01T14:00:00+02:00"')).labelled_at == AT
    assert parse_label(_message(labelled_at='"2026-03-01T12:00:00"')).labelled_at == AT
    assert parse_label(_message(labelled_at="1772366400000")).labelled_at == AT
    assert parse_label(_message(labelled_at="null")).labelled_at is None
    assert parse_label(_message(review_id="17", annotator="3", task="5")).review_id == "17"
    assert parse_label(_message(label="1.0")).label == 1


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=10),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def test_a_list_of_labels_is_refused_with_what_to_do_instead():
    with pytest.raises(InvalidMessage, match=r"one label, not a list.*make each label a task of its own"):
        parse_label(_message(label='["positive", "late"]'))


_FIELDS = st.sampled_from(["id", "task", "review_id", "label", "annotator", "labelled_at", "other"])
_OBJECTS = st.dictionaries(_FIELDS, _JSON | st.datetimes().map(str), max_size=7).map(
    lambda fields: {**json.loads(_message()), **fields}
)
_RAW = st.one_of(
    st.binary(max_size=200),
    _OBJECTS.map(lambda value: json.dumps(value).encode()),
    _OBJECTS.map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    st.sampled_from([raw for raw, _ in REFUSED.values() if raw and len(raw) < 1000]),
)


def _check_refusal(err: InvalidMessage) -> None:
    assert re.fullmatch(r"[a-z0-9_]{3,40}", err.reason)
    assert len(str(err)) < 300


@settings(max_examples=400, deadline=None)
@given(_RAW)
def test_the_parser_refuses_with_a_reason_or_returns_what_can_be_stored(raw: bytes) -> None:
    try:
        label = parse_label(raw)
    except InvalidMessage as err:
        _check_refusal(err)
        return
    names = [label.task, label.review_id, label.annotator, *([label.id] if label.id is not None else [])]
    if isinstance(label.label, int):
        assert 0 <= label.label < MAX_LABELS
        assert label.label is not True
    elif label.label is not None:
        names.append(label.label)
    for name in names:
        assert 0 < len(name) <= MAX_ID_CHARACTERS
        assert "\x00" not in name.encode("utf-8").decode("utf-8")
    assert label.labelled_at is None or label.labelled_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("positive", "positive"), ("mixed", "mixed"), (0, "negative"), (2, "positive"), (None, None),
        ("unsure", None), ("0", "negative"), ("002", "positive"), ("1.0", "neutral"),
    ],
)  # fmt: skip
def test_a_label_is_a_name_or_a_number_of_its_task_or_unsure(
    given: str | int | None, found: str | None
) -> None:
    assert resolve_label(given, VOCABULARY) == found


@pytest.mark.parametrize("given", ["Positive", "lovely", 3, "3", "-1", "1.5", "0002", "\u0661"])
def test_a_label_that_its_task_does_not_have_is_refused_with_those_that_it_has(given: str | int) -> None:
    with pytest.raises(InvalidMessage) as refused:
        resolve_label(given, VOCABULARY)
    assert refused.value.reason == "unknown_label"
    assert "negative (0), neutral (1), positive (2), mixed, or unsure" in str(refused.value)
    assert "lovely" not in str(refused.value)


def test_digits_are_a_name_where_the_task_has_it() -> None:
    stars = Vocabulary(("5", "4", "3", "2", "1"), frozenset({"0"}))
    assert [resolve_label(given, stars) for given in ("5", "1", "0")] == ["5", "1", "0"]
    assert resolve_label("004", stars) == "1"


def test_a_task_without_an_adapter_takes_any_name_but_no_number() -> None:
    assert resolve_label("lovely", None) == "lovely"
    assert resolve_label("unsure", None) is None
    for name in ("\x1b[2J", " outer blanks", "two\nlines", "\u202eturned"):
        with pytest.raises(InvalidMessage) as caught:
            resolve_label(name, None)
        assert caught.value.reason == "bad_label"
    assert resolve_label("0", None) == "0"
    with pytest.raises(InvalidMessage, match="no adapter yet"):
        resolve_label(0, None)


def test_of_very_many_labels_some_are_shown() -> None:
    many = Vocabulary(tuple(f"label {number}" for number in range(100)))
    with pytest.raises(InvalidMessage, match="label 19 \\(19\\) and 80 more, or unsure"):
        resolve_label("none", many)
