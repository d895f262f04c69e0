"""``reviewloop query --text`` at 1,000,000 reviews, with and without the optional index, and its price."""

import secrets
import time
from pathlib import Path

from benchmarks.figures import percentile, report, report_machine
from benchmarks.made_up import made_up_messages
from benchmarks.million import NAMES, fill_database
from benchmarks.path_queries import measure, opened
from benchmarks.services import Services, connect, open_services
from benchmarks.stream import environment, fill, prepare, run_null_worker
from storage.database import Database
from storage.queries.filters import ReviewFilter
from storage.queries.text_index import create_text_index

REVIEWS = 1_000_000
INGESTED = 20_000
PARTS = {
    "in most reviews": "fabric",
    "in 11 %": NAMES[0],
    "in 0.1 %": NAMES[100],
    "in 0.002 %": NAMES[-1],
    "in none": "unheard-of",
}


def main(_data: Path | None = None) -> None:
    report_machine()
    with open_services() as services, services.database() as url:
        prepare(url)
        with connect(url) as connection:
            fill_database(connection, REVIEWS)
        with opened(url) as database:
            _report_queries(database, "without index", repetitions=1)
            _report_ingest(services, url, "without index")
            started = time.monotonic()
            create_text_index(database)
            report("path_text index made in", [time.monotonic() - started], "s")
            _report_queries(database, "with index", repetitions=40)
            _report_ingest(services, url, "with index")


def _report_queries(database: Database, name: str, repetitions: int) -> None:
    for share, part in PARTS.items():
        times = measure(database, ReviewFilter(text=part), repetitions)
        report(f"path_text {share}, {name}", times, "ms")
        report(f"path_text {share}, {name}, p95", [percentile(times, 0.95)], "ms")


def _report_ingest(services: Services, url: str, name: str) -> None:
    rates = []
    for seed in range(3):
        with services.topic() as topic:
            fill(services.bootstrap_servers, topic, made_up_messages(INGESTED, seed=seed))
            settings = environment(services.bootstrap_servers, url, topic, secrets.token_hex(4))
            found = run_null_worker(settings, INGESTED)
            rates.append(found["reviews"] / found["seconds"])
    report(f"path_text ingest {name}", rates, "reviews/s")


if __name__ == "__main__":
    main()
