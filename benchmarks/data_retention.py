"""Retention beside ingest: what it costs, what it gives back, and how long it takes.

In turns a worker process with the null classifier takes in reviews alone, and while ``data retain`` deletes
the oldest fifth. Then the deletion goes on to its end without ingest, and ``--shrink`` gives the room back,
so that the disk before and after can be compared. `benchmarks/growth.py` does the same with a copy of its
databases.
"""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import LiteralString, NamedTuple

from benchmarks.figures import report, report_machine
from benchmarks.made_up import made_up_messages
from benchmarks.million import DAYS, fill_database
from benchmarks.services import Services, connect, open_services
from benchmarks.stream import environment, fill, open_database, prepare, run_null_worker
from storage.learning.leases import LeaseStore
from storage.lifecycle.retention import LEASE

REVIEWS = int(os.environ.get("REVIEWLOOP_BENCH_REVIEWS", "300000"))
ROUND = 60_000
TURNS = 5
_START_SECONDS = 60.0
_KEPT_DAYS = DAYS * 0.8


class Retained(NamedTuple):
    """What was measured.

    Attributes:
        alone: Reviews a second of the turns without deletion.
        beside: Reviews a second of those with it, in the same order.
        deletion: Seconds of the rest of the deletion, without ingest.
        deleted: How many reviews went in that time.
        shrinking: Seconds in which the room was given back.
        sizes: Bytes of the database before that, after the deletion, and after the shrinking.
    """

    alone: list[float]
    beside: list[float]
    deletion: float
    deleted: int
    shrinking: float
    sizes: tuple[int, int, int]


def main(_data: Path | None = None) -> None:
    report_machine()
    with open_services() as services, services.database() as url:
        prepare(url)
        with connect(url) as connection:
            fill_database(connection, REVIEWS)
        found = measure(services, url)
    report("data_retention ingest alone", found.alone, "reviews/s")
    report("data_retention ingest beside the deletion of a fifth", found.beside, "reviews/s")
    pairs = zip(found.alone, found.beside, strict=True)
    report("data_retention beside to alone", [beside / alone for alone, beside in pairs], "ratio")
    report("data_retention deleted", [found.deleted], "reviews")
    report("data_retention deletion", [found.deletion], "s")
    report("data_retention shrinking", [found.shrinking], "s")
    for name, size in zip(("before", "after deletion", "after shrinking"), found.sizes, strict=True):
        report(f"data_retention size {name}", [size / 1e6], "MB")


def measure(services: Services, url: str) -> Retained:
    """All of it, in a database of a year's reviews in which the null adapter serves; a fifth goes.

    Args:
        services: Where the topics are made.
        url: Of the database; changed for good.
    """
    rates: dict[bool, list[float]] = {False: [], True: []}
    seeds = iter(range(2 * TURNS))
    for turn in range(TURNS):
        for with_deletion in (False, True) if turn % 2 else (True, False):
            with services.topic() as topic:
                fill(services.bootstrap_servers, topic, _messages(next(seeds)))
                with _retaining(url) if with_deletion else nullcontext():
                    rates[with_deletion].append(_rate(services, url, topic))
    before = _bytes(url)
    rows = _rows(url)
    deletion = _seconds(url, "--busy-share", "1")
    deleted, after = rows - _rows(url), _bytes(url)
    shrinking = _seconds(url, "--shrink", "--busy-share", "1")
    sizes = (before, after, _bytes(url))
    return Retained(rates[False], rates[True], deletion, deleted, shrinking, sizes)


def _start(url: str, *options: str) -> "subprocess.Popen[bytes]":
    settings = {"REVIEWLOOP_DATABASE__URL": url, "REVIEWLOOP_RETENTION__TEXTS_DAYS": str(_KEPT_DAYS)}
    command = [sys.executable, "-m", "reviewloop", "data", "retain", "--format", "jsonl", *options]
    return subprocess.Popen(command, env={**os.environ, **settings}, stdout=sys.stderr)


@contextmanager
def _retaining(url: str) -> Iterator[None]:
    """The command as it is set by default, at work from beginning to end, then told to stop.

    Raises:
        RuntimeError: If it was done before, so that the turn shows nothing.
    """
    child = _start(url)
    try:
        _wait_until_it_deletes(url)
        yield
        if child.poll() is not None:
            raise RuntimeError("The deletion was over before the turn was: take more reviews.")
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait()


def _wait_until_it_deletes(url: str) -> None:
    with closing(open_database(url)) as database:
        leases, until = LeaseStore(database), time.monotonic() + _START_SECONDS
        while leases.holder(LEASE) is None:
            if time.monotonic() > until:
                raise RuntimeError("The deletion has not begun.")
            time.sleep(0.05)


def _seconds(url: str, *options: str) -> float:
    """How long the command takes.

    Raises:
        RuntimeError: If it fails.
    """
    began = time.monotonic()
    if status := _start(url, *options).wait():
        raise RuntimeError(f"'data retain' ended with {status}.")
    return time.monotonic() - began


def _messages(seed: int) -> Iterator[tuple[bytes, bytes]]:
    """Reviews that no round and no filling has had before."""
    name = b"round%d-" % seed
    for key, value in made_up_messages(ROUND, seed=seed):
        yield name + key, value.replace(b'"id": "', b'"id": "' + name, 1)


def _rate(services: Services, url: str, topic: str) -> float:
    with connect(url) as connection:
        connection.execute("CHECKPOINT")  # no turn pays for what was written before
    found = run_null_worker(environment(services.bootstrap_servers, url, topic, secrets.token_hex(4)), ROUND)
    return float(found["reviews"] / found["seconds"])


def _rows(url: str) -> int:
    return _number(url, "SELECT count(*) FROM review")


def _bytes(url: str) -> int:
    return _number(url, "SELECT pg_database_size(current_database())")


def _number(url: str, query: LiteralString) -> int:
    with connect(url) as connection:
        row = connection.execute(query).fetchone()
    return int(str(row[0])) if row else 0


if __name__ == "__main__":
    main()
