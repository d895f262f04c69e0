"""Records that are large, or that a few bytes stand for: a worker's memory stays within its bound."""

import hashlib
import json
import sys
from collections.abc import Callable, Iterable

import pytest
from kafka import KafkaProducer

from tests.faults.scene import Scene

Make = Callable[..., Scene]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a process's peak memory is read from /proc")
MEGABYTE = 1_000_000
_CONSUMER = {"max_batch_reviews": 4096, "retry_max_seconds": 1.0}


def _publish(stream: Scene, values: Iterable[bytes], compression: str) -> int:
    """Publish these values; how many."""
    producer = KafkaProducer(
        bootstrap_servers=stream.bootstrap,
        acks="all",
        compression_type=compression,
        max_request_size=2**31 - 1,
        batch_size=4 * MEGABYTE,
        linger_ms=50,
    )
    try:
        futures = [producer.send(stream.topic, value, partition=0) for value in values]
        producer.flush(120)
        return 1 + max(future.get(10).offset for future in futures)
    finally:
        producer.close()


def _wait_until_read(stream: Scene, end: int) -> None:
    def is_read(_: object) -> bool:
        return stream.sql("SELECT next_offset FROM stream_partition") == [(end,)]

    stream.truth.clear()
    stream.accounts = list  # type: ignore[method-assign]  # what is cut is held against more than its bytes
    stream.wait_until(is_read)


def test_a_record_that_expands_to_a_hundred_megabytes_is_one_dead_letter_and_takes_few(scene: Make):
    stream = scene(partitions=1)
    worker = stream.worker(consumer=_CONSUMER)
    before = worker.peak_megabytes()
    bomb = b'{"id": "2", "text": "' + b" " * 100 * MEGABYTE
    small = [json.dumps({"id": str(number), "text": f"review {number}"}).encode() for number in range(3)]
    end = _publish(stream, [small[0], bomb, *small[1:]], "zstd")
    _wait_until_read(stream, end)
    most = worker.peak_megabytes() - before

    assert stream.sql("SELECT text FROM review ORDER BY record") == [
        (f"review {number}",) for number in range(3)
    ]
    assert stream.sql("SELECT raw, raw_full_bytes, raw_sha256, error FROM dead_letter") == [
        (bomb[:65_536], len(bomb), hashlib.sha256(bomb).hexdigest(), "too_long")
    ]
    assert most < 60, f"it took {most:.0f} MB more"


def test_hundreds_of_records_of_nearly_a_megabyte_take_a_hundred_megabytes_or_two(scene: Make):
    stream = scene(partitions=1)
    filler = "x" * 900_000
    count = 400
    end = _publish(
        stream,
        (
            json.dumps({"id": str(number), "text": f"review {number}", "unknown": filler}).encode()
            for number in range(count)
        ),
        "lz4",
    )
    worker = stream.worker(consumer=_CONSUMER, score_seconds=0.02)
    before = worker.peak_megabytes()
    _wait_until_read(stream, end)
    most = worker.peak_megabytes() - before

    assert stream.sql("SELECT count(*), count(DISTINCT review_id) FROM review") == [(count, count)]
    assert stream.sql("SELECT count(*) FROM dead_letter") == [(0,)]
    assert most < 200, f"it took {most:.0f} MB more"
