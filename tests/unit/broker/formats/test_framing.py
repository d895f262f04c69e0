"""Frames and headers that name a schema."""

import pytest

from broker.formats.framing import Prepared, named_by_frame, named_by_header, read_indexes
from reviews.errors import InvalidMessage, Unavailable

GUID = bytes(range(16))


def test_a_frame_begins_with_an_id_or_a_guid():
    assert named_by_frame(b"\x00\x00\x00\x00\x07rest") == b"\x00\x00\x00\x00\x07"
    assert named_by_frame(b"\x01" + GUID + b"rest") == b"\x01" + GUID


@pytest.mark.parametrize(
    ("raw", "reason", "says"),
    [
        (b"", "not_framed", "does not begin with the id of a schema"),
        (b'{"id": 1}', "not_framed", "begins like JSON"),
        (b"Obj\x01more", "not_framed", "begins like an Avro file"),
        (b"\x02abc", "not_framed", "name the schema_file"),
        (b"\x00\x00\x00\x00", "bad_frame", "cut off"),
        (b"\x01" + GUID[:15], "bad_frame", "cut off"),
    ],
)
def test_what_is_no_frame_is_told_apart(raw: bytes, reason: str, says: str):
    with pytest.raises(InvalidMessage, match=says) as raised:
        named_by_frame(raw)
    assert raised.value.reason == reason


def test_the_header_of_the_part_counts_and_no_other():
    headers = [
        ("other", b"x"),
        ("__key_schema_id", b"\x01" + GUID),
        ("__value_schema_id", b"\x00\x00\x00\x00\x09"),
    ]
    assert named_by_header(headers, "value") == b"\x00\x00\x00\x00\x09"
    assert named_by_header(headers, "key") == b"\x01" + GUID
    assert named_by_header([("other", b"x")], "value") is None


@pytest.mark.parametrize("value", [None, b"", b"\x00\x00", b"\x01short", b"\x05" + bytes(20)])
def test_a_header_that_is_no_id_is_refused(value: bytes | None):
    with pytest.raises(InvalidMessage, match="the header __value_schema_id"):
        named_by_header([("__value_schema_id", value)], "value")


@pytest.mark.parametrize(
    ("raw", "indexes"),
    [
        (b"\x00", (0,)),
        (b"\x02\x02", (1,)),
        (b"\x04\x00\x02", (0, 1)),
        (b"\x02\x80\x01", (64,)),
    ],
)
def test_indexes_are_zigzag_numbers_behind_their_count(raw: bytes, indexes: tuple[int, ...]):
    assert read_indexes(b"?" + raw + b"payload", 1) == (indexes, 1 + len(raw))


@pytest.mark.parametrize(
    "raw", [b"", b"\x02", b"\x01", b"\x02\x01", b"\xff" * 20, b"\x42" + bytes(40), b"\x04\x00"]
)
def test_indexes_that_are_cut_off_too_many_or_negative_are_refused(raw: bytes):
    with pytest.raises(InvalidMessage, match="indexes"):
        read_indexes(raw, 0)


def test_a_refusal_is_remembered_for_a_while_and_an_outage_is_not():
    now, calls = [0.0], list[bytes]()
    failure: list[Exception | None] = [Unavailable("away", "registry")]

    def make(named: bytes) -> str:
        calls.append(named)
        if failure[0] is not None:
            raise failure[0]
        return "made"

    prepared = Prepared(make, clock=lambda: now[0])
    for _ in range(2):
        with pytest.raises(Unavailable):
            prepared.of(b"a")
    failure[0] = InvalidMessage("unknown_schema", "none")
    for _ in range(3):
        with pytest.raises(InvalidMessage, match="none"):
            prepared.of(b"a")
    assert len(calls) == 3
    failure[0] = None
    now[0] += 31
    assert [prepared.of(b"a"), prepared.of(b"a")] == ["made", "made"]
    assert len(calls) == 4


def test_neither_what_was_made_nor_refusals_grow_without_a_bound():
    def make(named: bytes) -> str:
        if named.startswith(b"bad"):
            raise InvalidMessage("unknown_schema", "none")
        return "made"

    prepared = Prepared(make)
    for number in range(12_000):
        prepared.of(b"%d" % number)
        with pytest.raises(InvalidMessage):
            prepared.of(b"bad%d" % number)
    assert len(prepared.ready) == 1_000
    assert len(prepared._refused) == 10_000
