"""What a worker's memory reaches over a record of 35 kB that is 1.1 GB, and over 4,000 records of 0.9 MB.

A worker process wired as the product wires it, around a classifier that needs no model. Each line says what
the process took at most, in MB, and what became of the records; one that is not accounted for is an error.
"""

import json
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from kafka import KafkaProducer

from benchmarks.figures import report, report_machine
from benchmarks.services import Services, connect, open_services
from benchmarks.stream import environment, fill, prepare, run_null_worker

BOMB_BYTES = int(os.environ.get("REVIEWLOOP_BENCH_BOMB_BYTES", "1100000000"))
SMALL = 1_000
LARGE, FILLER_BYTES = 4_000, 900_000


def main(_data: Path | None = None) -> None:
    report_machine()
    with open_services() as services:
        _run(services, "nothing large", SMALL, dead_letters=0, large=())
        _run(services, f"a record of {BOMB_BYTES / 1e9:.1f} GB", SMALL, dead_letters=1, large=None)
        _run(services, f"{LARGE:,} records of 0.9 MB", SMALL + LARGE, dead_letters=0, large=_large())


def _run(
    services: Services,
    what: str,
    reviews: int,
    *,
    dead_letters: int,
    large: Iterable[tuple[bytes, bytes]] | None,
) -> None:
    """Publish what is large and small reviews behind it, and let a worker store all of it."""
    with services.topic(partitions=1) as topic, services.database() as url:
        if large is None:
            _publish_bomb(services.bootstrap_servers, topic)
        else:
            fill(services.bootstrap_servers, topic, large)
        fill(services.bootstrap_servers, topic, _small())
        prepare(url)
        started = time.monotonic()
        settings = environment(services.bootstrap_servers, url, topic, secrets.token_hex(4))
        found = run_null_worker(settings, reviews)
        seconds = time.monotonic() - started
        with connect(url) as connection:
            counted = connection.execute(
                "SELECT (SELECT count(*) FROM review), (SELECT count(*) FROM dead_letter)"
            ).fetchone()
        if counted != (reviews, dead_letters):
            raise RuntimeError(
                f"{what}: {counted} reviews and dead letters instead of {reviews}, {dead_letters}."
            )
    report(f"faults_large_records memory, {what}", [found["peak_megabytes"]], "MB")
    report(f"faults_large_records time, start included, {what}", [seconds], "s")


def _small() -> Iterator[tuple[bytes, bytes]]:
    for number in range(SMALL):
        yield b"%d" % number, json.dumps({"id": f"small-{number}", "text": f"review {number}"}).encode()


def _large() -> Iterator[tuple[bytes, bytes]]:
    filler = "x" * FILLER_BYTES
    for number in range(LARGE):
        review = {"id": f"large-{number}", "text": f"review {number}", "unknown": filler}
        yield b"%d" % number, json.dumps(review).encode()


def _publish_bomb(bootstrap: str, topic: str) -> None:
    producer = KafkaProducer(
        bootstrap_servers=bootstrap, acks="all", compression_type="zstd", max_request_size=2**31 - 1
    )
    try:
        producer.send(topic, b'{"id": "1", "text": "' + b" " * BOMB_BYTES, key=b"1").get(300)
    finally:
        producer.close()


if __name__ == "__main__":
    main()
