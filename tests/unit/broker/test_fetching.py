"""Fetched batches within a bound of bytes: every record is delivered, and none takes more than its share."""

import hashlib
import os
import random
import tracemalloc
from collections.abc import Sequence

import pytest
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.record.legacy_records import LegacyRecordBatchBuilder
from kafka.record.memory_records import MemoryRecords
from kafka.structs import TopicPartition

from broker.fetching import MAX_POLL_BYTES, Allowance, _PartitionRecords
from reviews.errors import StreamError
from reviews.record_value import KEPT_BYTES, CutBytes

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
EVERY_CODEC = pytest.mark.parametrize("codec", range(5), ids=["none", "gzip", "snappy", "lz4", "zstd"])
LIMIT = 1024 * 1024
PARTITION = TopicPartition("reviews", 0)

Fields = tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]


def _batch(codec: int, records: Sequence[Fields], first_offset: int = 0) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=codec, is_transactional=0, producer_id=-1, producer_epoch=-1,
        base_sequence=-1, batch_size=2**31 - 1,
    )  # fmt: skip
    for index, (key, value, headers) in enumerate(records):
        assert builder.append(index, 1_000 + index, key, value, headers) is not None
    content = builder.build()
    content[:8] = first_offset.to_bytes(8, "big")  # no part of the checksum
    return bytes(content)


def _reader(content: bytes, allowance: Allowance | None = None, first_offset: int = 0) -> _PartitionRecords:
    return _PartitionRecords(
        allowance or Allowance(), LIMIT, first_offset, PARTITION, MemoryRecords(content), check_crcs=True
    )


def _read(content: bytes) -> list[object]:
    allowance = Allowance()
    reader = _reader(content, allowance)
    found = []
    while reader:
        allowance.renew()
        found += reader.take(2_000)
    return found


@EVERY_CODEC
def test_records_are_what_kafka_python_reads_whole(codec: int):
    rng = random.Random(codec)
    records: list[Fields] = [
        (
            rng.choice([None, b"", rng.randbytes(rng.choice([1, 90_000]))]),
            rng.choice([None, b"", b"good " * rng.randrange(30_000), rng.randbytes(rng.randrange(200_000))]),
            [("name", rng.choice([None, b"", b"value"]))] * rng.randrange(3),
        )
        for _ in range(60)
    ]
    content = _batch(codec, records)
    whole = [
        (one.offset, one.timestamp, one.key, one.value, one.headers) for one in DefaultRecordBatch(content)
    ]
    assert [(one.offset, one.timestamp, one.key, one.value, one.headers) for one in _read(content)] == whole
    assert len(whole) == 60


@EVERY_CODEC
def test_a_value_that_is_too_long_is_delivered_cut_and_its_neighbours_whole(codec: int):
    long = os.urandom(3 * LIMIT) + b" " * LIMIT
    before, cut, after = _read(
        _batch(codec, [(b"1", b"before", []), (b"2", long, [("h", b"v")]), (b"3", b"after", [])], 70)
    )
    assert (before.offset, before.value, after.offset, after.value) == (70, b"before", 72, b"after")
    assert (cut.offset, cut.timestamp, cut.key, cut.headers) == (71, 1_001, b"2", [("h", b"v")])
    assert isinstance(cut.value, CutBytes)
    assert cut.value == long[:KEPT_BYTES]
    assert (cut.value.full_bytes, cut.value.sha256) == (len(long), hashlib.sha256(long).hexdigest())
    assert not isinstance(before.value, CutBytes)


def test_a_value_of_exactly_the_limit_is_whole_and_a_key_beyond_it_is_cut():
    [one] = _read(_batch(ZSTD, [(b"k" * (LIMIT + 1), b"v" * LIMIT, [])]))
    assert one.value == b"v" * LIMIT
    assert not isinstance(one.value, CutBytes)
    assert (one.key, one.key.full_bytes) == (b"k" * KEPT_BYTES, LIMIT + 1)


@pytest.mark.parametrize("codec", [GZIP, LZ4, ZSTD], ids=["gzip", "lz4", "zstd"])
@pytest.mark.parametrize("values", [[64 * LIMIT], [LIMIT] * 64], ids=["in one", "in many"])
def test_a_few_bytes_that_stand_for_many_megabytes_take_few(codec: int, values: list[int]):
    content = _batch(codec, [(None, b" " * size, []) for size in values])
    reader = _reader(content, allowance := Allowance())
    delivered = []
    tracemalloc.start()
    try:
        while reader:
            allowance.renew()
            delivered += [getattr(one.value, "full_bytes", len(one.value)) for one in reader.take(2_000)]
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert delivered == values
    assert most < 3 * MAX_POLL_BYTES, f"{most:,} bytes"


def test_a_record_of_nothing_but_headers_takes_few_bytes():
    content = _batch(ZSTD, [(b"1", b"{}", [("ours", b"1")] + [("", None)] * 50_000), (b"2", b"{}", [])])
    tracemalloc.start()
    try:
        first, second = _read(content)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (first.value, first.headers[0], second.value) == (b"{}", ("ours", b"1"), b"{}")
    assert most < 1_500_000, f"{most:,} bytes"


def test_headers_beyond_those_that_are_kept_are_passed_over_unread():
    content = bytearray(_batch(NONE, [(b"1", b"{}", [("", b"")] * 40_000), (b"2", b"{}", [])]))
    place = content.index(bytes(2_000)) + 1_900
    content[place : place + 5] = b"\xfe\xff\xff\xff\x0f"  # to whom reads it, a name of 2 GB
    reader = _PartitionRecords(Allowance(), LIMIT, 0, PARTITION, MemoryRecords(content), check_crcs=False)
    first, second = reader.take(5)
    assert (first.key, second.key, second.value) == (b"1", b"2", b"{}")
    assert 0 < len(first.headers) <= KEPT_BYTES // 128


def test_a_poll_ends_at_its_allowance_and_the_next_one_goes_on_behind_it():
    allowance = Allowance()
    reader = _reader(_batch(LZ4, [(None, b"x" * LIMIT, [])] * 20), allowance)
    first = [one.offset for one in reader.take(2_000)]
    assert first == list(range(MAX_POLL_BYTES // LIMIT))
    assert allowance.is_spent
    allowance.renew()
    assert reader.take(2_000)[0].offset == len(first)


def test_reading_goes_on_in_the_middle_of_a_batch():
    reader = _reader(_batch(GZIP, [(None, b"x" * 100_000, [])] * 9, 40), first_offset=46)
    assert [one.offset for one in reader.take(2_000)] == [46, 47, 48]


@pytest.mark.parametrize("size", [10, 2 * KEPT_BYTES], ids=["short", "long"])
def test_a_header_name_that_is_not_utf8_is_delivered_with_escapes(size: int):
    content = bytearray(
        _batch(NONE, [(None, b"x" * size, [("caf\N{LATIN SMALL LETTER E WITH ACUTE}", b"v")])])
    )
    place = content.index(b"caf\xc3\xa9")
    content[place + 3 : place + 5] = b"\xff\xfe"
    allowance = Allowance()
    reader = _PartitionRecords(allowance, LIMIT, 0, PARTITION, MemoryRecords(content), check_crcs=False)
    [one] = reader.take(5)
    assert one.headers == [("caf\\xff\\xfe", b"v")]


def test_a_header_name_that_is_not_utf8_is_no_reason_to_copy_the_batch():
    filling: Fields = (None, b"x" * 4 * LIMIT, [])
    content = bytearray(_batch(NONE, [(None, b"0", []), (None, b"1", [("name", b"v")]), filling]))
    content[content.index(b"name")] = 0xFF
    reader = _PartitionRecords(Allowance(), LIMIT, 0, PARTITION, MemoryRecords(content), check_crcs=False)
    reader.take(1)
    tracemalloc.start()
    try:
        [one] = reader.take(1)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (one.headers, one.value) == ([("\\xffame", b"v")], b"1")
    assert most < LIMIT, f"{most:,} bytes"


def test_a_batch_of_an_old_format_that_would_be_read_whole_is_refused_in_words():
    builder = LegacyRecordBatchBuilder(magic=1, compression_type=GZIP, batch_size=2**31 - 1)
    builder.append(0, timestamp=1, key=None, value=b" " * 70_000_000)
    with pytest.raises(StreamError, match="in a format of Kafka before"):
        _reader(bytes(builder.build())).take(1)


def test_a_small_batch_of_an_old_format_is_read():
    builder = LegacyRecordBatchBuilder(magic=1, compression_type=GZIP, batch_size=2**31 - 1)
    builder.append(0, timestamp=1, key=b"k", value=b"v")
    assert [(one.key, one.value) for one in _read(bytes(builder.build()))] == [(b"k", b"v")]
