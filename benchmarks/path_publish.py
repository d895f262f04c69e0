"""``reviewloop publish FILE`` beside a bare kafka-python producer that sends the same bytes.

Both in this process and with the same producer settings; from opening the connection to the last
acknowledgement. The bare producer has its messages in memory; the command reads, checks and for CSV also
builds them.
"""

import csv
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.figures import report, report_machine
from benchmarks.made_up import made_up_messages
from benchmarks.services import Services, open_services
from broker.connections import open_producer
from broker.settings import KafkaSettings
from reviewloop.cli.publish import publish

REVIEWS = 100_000
REPETITIONS = 5


def main(_data: Path | None = None) -> None:
    report_machine()
    messages = list(made_up_messages(REVIEWS))
    rates: dict[str, list[float]] = {"bare producer": [], "csv": [], "jsonl": []}
    with TemporaryDirectory() as folder, open_services() as services:
        files = write_files(Path(folder), [value for _, value in messages])
        for _ in range(REPETITIONS):
            rates["bare producer"].append(_timed(services, lambda topic: _send(services, topic, messages)))
            for kind, file in files.items():
                rates[kind].append(_timed(services, lambda topic, file=file: _publish(services, topic, file)))
    for name, values in rates.items():
        report(f"path_publish {name}", values, "reviews/s")
    for kind in files:
        shares = [mine / bare for mine, bare in zip(rates[kind], rates["bare producer"], strict=True)]
        report(f"path_publish {kind} to bare producer", shares, "ratio")


def write_files(folder: Path, values: list[bytes]) -> dict[str, Path]:
    """The same reviews as CSV and as JSON lines."""
    (folder / "reviews.jsonl").write_bytes(b"\n".join(values) + b"\n")
    rows = [json.loads(value) for value in values]
    with (folder / "reviews.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return {"csv": folder / "reviews.csv", "jsonl": folder / "reviews.jsonl"}


def _timed(services: Services, send: Callable[[str], None]) -> float:
    with services.topic() as topic:
        started = time.perf_counter()
        send(topic)
        return REVIEWS / (time.perf_counter() - started)


def _send(services: Services, topic: str, messages: list[tuple[bytes, bytes]]) -> None:
    producer = open_producer(KafkaSettings(bootstrap_servers=services.bootstrap_servers))
    for key, value in messages:
        producer.send(topic, value, key=key)
    producer.flush()
    producer.close()


def _publish(services: Services, topic: str, file: Path) -> None:
    with (
        _environment(REVIEWLOOP_KAFKA__BOOTSTRAP_SERVERS=services.bootstrap_servers),
        redirect_stdout(io.StringIO()),
    ):
        publish(file, topic=topic)


@contextmanager
def _environment(**settings: str) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(settings)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


if __name__ == "__main__":
    main()
