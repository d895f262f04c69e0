"""Retention beside ingest: what it costs, what it gives back, and how long it takes.

Rounds of ingest by a worker process with the null classifier go into a database of many reviews: some alone,
some while ``data retain`` deletes the oldest fifth, some while ``--shrink`` gives the room back.
"""

import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.figures import report, report_machine
from benchmarks.made_up import made_up_messages
from benchmarks.million import DAYS, fill_database
from benchmarks.services import Services, connect, open_services
from benchmarks.stream import environment, fill, prepare, run_null_worker

REVIEWS = int(os.environ.get("REVIEWLOOP_BENCH_REVIEWS", "400000"))
ROUND = 80_000
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
        beside, took = _beside(services, url, ["--busy-share", "0.2"], rounds)
        after = _bytes(url)
        shrinking, shrink_took = _beside(services, url, ["--shrink", "--busy-share", "0.2"], rounds)
        shrunk = _bytes(url)
        alone += [_rate(services, url, next(rounds)) for _ in range(2)]
    usual = sorted(alone)[len(alone) // 2]
    report("data_retention ingest alone", alone, "reviews/s")
    report("data_retention ingest beside the deletion of a fifth", beside, "reviews/s")
    report("data_retention deletion to alone", [rate / usual for rate in beside], "ratio")
    report("data_retention ingest beside shrinking", shrinking, "reviews/s")
    report("data_retention deletion", [took], "s")
    report("data_retention shrinking", [shrink_took], "s")
    for name, size in (("before", before), ("after deletion and ingest", after), ("after shrinking", shrunk)):
        report(f"data_retention size {name}", [size / 1e6], "MB")


def _beside(services: Services, url: str, options: list[str], rounds: "object") -> tuple[list[float], float]:
    """Rates of ingest while the command works, and how long it took."""
    settings = {
        "REVIEWLOOP_DATABASE__URL": url,
        "REVIEWLOOP_RETENTION__TEXTS_DAYS": str(DAYS * 0.8),
    }
    began = time.monotonic()
    rates: list[float] = []
    command = [sys.executable, "-m", "reviewloop", "data", "retain", "--format", "jsonl", *options]
    with subprocess.Popen(command, env={**os.environ, **settings}) as child:
        while child.poll() is None and len(rates) < 12:
            rate = _rate(services, url, next(rounds))  # type: ignore[call-overload]
            if child.poll() is None:
                rates.append(rate)
        child.wait()
    return rates, time.monotonic() - began


def _rate(services: Services, url: str, seed: int) -> float:
    with services.topic() as topic:
        fill(services.bootstrap_servers, topic, made_up_messages(ROUND, seed=seed))
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
