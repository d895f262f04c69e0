"""A few thousand broken messages through a real worker; `make fuzz` does the same with a million.

And a few thousand broken Avro and Protobuf records through their decoders, in a process of their own.
"""

from datetime import UTC, datetime

import pytest

from benchmarks.fuzz.__main__ import fuzz
from benchmarks.fuzz.accounts import Sent, account
from benchmarks.fuzz.frames import fuzz as fuzz_frames
from benchmarks.fuzz.mutations import Message, messages
from benchmarks.services import Services

_COUNT = 5_000


def test_each_of_5000_broken_messages_is_a_row_or_a_dead_letter_and_the_worker_lives(
    kafka_bootstrap: str, database_url: str
) -> None:
    said = fuzz(Services(kafka_bootstrap, database_url), seed=2026, count=_COUNT)

    assert said["reviews"] + said["dead_letters"] == _COUNT
    assert sum(said["outcomes"].values()) == _COUNT
    assert said["outcomes"]["review"] == said["reviews"]
    # It breaks messages in many ways, and it does not break all of them.
    assert len(said["outcomes"]) >= 12
    assert said["reviews"] > _COUNT / 4


def test_each_of_3000_broken_frames_is_a_value_or_a_refusal_within_its_bound_of_memory() -> None:
    said = fuzz_frames(seed=2026, count=3_000)

    assert {"value", "bad_avro", "bad_protobuf", "not_utf8", "too_large"} <= said["outcomes"].keys()


def test_the_same_seed_breaks_the_same_messages_in_the_same_way() -> None:
    assert list(messages(7, 200)) == list(messages(7, 200))
    assert list(messages(7, 200)) != list(messages(8, 200))


_GOOD = Message(b'{"id": "1", "text": "Good."}', b"k", [], 0)
_BAD = Message(b"no json", b"k", [], None)


@pytest.mark.parametrize(
    ("rows", "letters"),
    [
        ({}, {}),  # the good one vanished
        ({(0, 0): "right"}, {(0, 0): ("not_json", _GOOD.value, b"k")}),  # it is there twice
        ({(0, 0): "wrong"}, {}),  # it has another text
        ({(0, 0): "late"}, {}),  # it has another time
        ({(0, 0): "right", (0, 1): "right"}, {}),  # the bad one is a row
        ({(0, 0): "right"}, {(0, 1): ("bad_text", _BAD.value, b"k")}),  # it has another reason
        ({(0, 0): "right"}, {(0, 1): ("not_json", b"other", b"k")}),  # it has other bytes
        ({(0, 0): "right", (0, 9): "right"}, {(0, 1): ("not_json", _BAD.value, b"k")}),  # one too many
    ],
)
def test_the_account_notices_what_is_lost_doubled_or_changed(rows, letters) -> None:

    stored = {
        "right": ("1", "Good.", None, None, None, datetime(1970, 1, 1, tzinfo=UTC)),
        "wrong": ("1", "Bad.", None, None, None, datetime(1970, 1, 1, tzinfo=UTC)),
        "late": ("1", "Good.", None, None, None, datetime(1970, 1, 2, tzinfo=UTC)),
    }
    with pytest.raises((AssertionError, KeyError)):
        account(
            [Sent((0, 0), _GOOD), Sent((0, 1), _BAD)],
            {place: stored[name] for place, name in rows.items()},
            letters,
        )
