"""Ingest into a database of 1,000,000 reviews beside ingest into one of 10,000, and memory over 1,000,000.

In each repetition the same topic goes into both, by a worker process each, with the null classifier.
"""

import secrets
from pathlib import Path

from benchmarks.figures import report, report_machine
from benchmarks.made_up import made_up_messages
from benchmarks.million import fill_database
from benchmarks.services import Services, connect, open_services
from benchmarks.stream import environment, fill, prepare, run_null_worker

SMALL, LARGE = 10_000, 1_000_000
REVIEWS = 60_000
REPETITIONS = 5


def main(_data: Path | None = None) -> None:
    report_machine()
    small: list[float] = []
    large: list[float] = []
    with open_services() as services, services.database() as large_url:
        prepare(large_url)
        with connect(large_url) as connection:
            fill_database(connection, LARGE)
        for repetition in range(REPETITIONS):
            with services.topic() as topic, services.database() as small_url:
                fill(services.bootstrap_servers, topic, made_up_messages(REVIEWS, seed=repetition))
                prepare(small_url)
                with connect(small_url) as connection:
                    fill_database(connection, SMALL)
                small.append(_rate(services, small_url, topic))
                large.append(_rate(services, large_url, topic))
    report("path_growth into 10,000 reviews", small, "reviews/s")
    report("path_growth into 1,000,000 reviews", large, "reviews/s")
    report("path_growth large to small", [b / a for a, b in zip(small, large, strict=True)], "ratio")


def _rate(services: Services, url: str, topic: str) -> float:
    with connect(url) as connection:
        connection.execute("CHECKPOINT")  # neither pays for what was written before
    found = run_null_worker(
        environment(services.bootstrap_servers, url, topic, secrets.token_hex(4)), REVIEWS
    )
    return float(found["reviews"] / found["seconds"])


if __name__ == "__main__":
    main()
