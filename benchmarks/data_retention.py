"""Retention beside ingest: what it costs, what it gives back, and how long it takes.

Rounds of ingest by a worker process with the null classifier go into a database of many reviews: some alone,
some while ``data retain`` deletes the oldest fifth. Then ``--shrink`` gives the room back, without ingest, so
that the disk before and after can be compared.
"""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import report, report_machine
from benchmarks.made_up import made_up_messages
from benchmarks.million import DAYS, fill_database
from benchmarks.services import Services, connect, open_services
from benchmarks.stream import environment, fill, prepare, run_null_worker

REVIEWS = int(os.environ.get("REVIEWLOOP_BENCH_REVIEWS", "300000"))
ROUND = 60_000
_TABLES = ("review", "prediction")


def main(_data: Path | None = None) -> None:
    report_machine()
    with open_services() as services, services.database() as url:
        prepare(url)
        with connect(url) as connection:
            fill_database(connection, REVIEWS)
        rounds = iter(range(100))
        alone = [_rate(services, url, next(rounds)) for _ in range(3)]
        before = _bytes(url)
        with _retaining(url, "--busy-share", "0.2") as child:
            began = time.monotonic()
            beside = list(_rates_beside(services, url, child, rounds))
            child.wait()
            took = time.monotonic() - began
        alone.append(_rate(services, url, next(rounds)))
        after = _bytes(url)
        with _retaining(url, "--shrink", "--busy-share", "1") as child:
            began = time.monotonic()
            child.wait()
            shrink_took = time.monotonic() - began
        shrunk = _bytes(url)
    usual = sorted(alone)[len(alone) // 2]
    report("data_retention ingest alone", alone, "reviews/s")
    report("data_retention ingest beside the deletion of a fifth", beside, "reviews/s")
    report("data_retention beside to alone", [rate / usual for rate in beside], "ratio")
    report("data_retention deletion", [took], "s")
    report("data_retention shrinking", [shrink_took], "s")
    for name, size in (("before", before), ("after deletion and ingest", after), ("after shrinking", shrunk)):
        report(f"data_retention size {name}", [size / 1e6], "MB")


def _retaining(url: str, *options: str) -> "subprocess.Popen[bytes]":
    """The command, at work."""
    settings = {"REVIEWLOOP_DATABASE__URL": url, "REVIEWLOOP_RETENTION__TEXTS_DAYS": str(DAYS * 0.8)}
    command = [sys.executable, "-m", "reviewloop", "data", "retain", "--format", "jsonl", *options]
    return subprocess.Popen(command, env={**os.environ, **settings})


def _rates_beside(
    services: Services, url: str, child: "subprocess.Popen[bytes]", rounds: Iterator[int]
) -> Iterator[float]:
    """Rates of the rounds that lay within the command's work."""
    while child.poll() is None:
        rate = _rate(services, url, next(rounds))
        if child.poll() is None:
            yield rate


def _messages(seed: int) -> Iterator[tuple[bytes, bytes]]:
    """Reviews that no round and no filling has had before."""
    name = b"round%d-" % seed
    for key, value in made_up_messages(ROUND, seed=seed):
        yield name + key, value.replace(b'"id": "', b'"id": "' + name, 1)


def _rate(services: Services, url: str, seed: int) -> float:
    with services.topic() as topic:
        fill(services.bootstrap_servers, topic, _messages(seed))
        found = run_null_worker(
            environment(services.bootstrap_servers, url, topic, secrets.token_hex(4)), ROUND
        )
    return float(found["reviews"] / found["seconds"])


def _bytes(url: str) -> int:
    with connect(url) as connection:
        query = "SELECT sum(pg_total_relation_size(name::regclass)) FROM unnest(%s::text[]) AS t (name)"
        row = connection.execute(query, [list(_TABLES)]).fetchone()
    return int(row[0]) if row else 0


if __name__ == "__main__":
    main()
