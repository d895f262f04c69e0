"""Stored rows to the topic of a sink; and the main path, with a classifier that takes no time, beside a sink.

One worker, one forwarder, Kafka and PostgreSQL on the same cores. The forwarder runs at its own lower
priority, as the product's does: while the worker takes what the cores give, it is behind, and it catches up
afterwards.
"""

import json
import secrets
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import report, report_machine
from benchmarks.made_up import made_up_messages
from benchmarks.services import Services, open_services
from benchmarks.stream import environment, fill, finish, prepare, run_null_worker, start_worker

REVIEWS = 200_000
REPETITIONS = 5
_START_SECONDS = 4.0


def main(_data: Path | None = None) -> None:
    report_machine()
    without: list[float] = []
    beside: list[float] = []
    sinks: list[float] = []
    costs: list[float] = []
    with open_services() as services, services.topic() as topic:
        fill(services.bootstrap_servers, topic, made_up_messages(REVIEWS))
        for _ in range(REPETITIONS):
            alone, sink, cost = _alone(services, topic)
            without.append(alone)
            sinks.append(sink)
            costs.append(cost)
            beside.append(_beside(services, topic))
    report("path_sink", sinks, "rows/s")
    report("path_sink processor time a row", costs, "µs")
    report("path_sink_main_path_without", without, "reviews/s")
    report("path_sink_main_path_beside", beside, "reviews/s")
    report("path_sink_beside_to_without", [a / b for a, b in zip(beside, without, strict=True)], "ratio")


def _alone(services: Services, topic: str) -> tuple[float, float, float]:
    """The worker without a sink, then a sink without the worker, and what a row costs it in microseconds."""
    with services.database() as url, services.topic() as target:
        prepare(url)
        settings = _settings(services, url, topic, target)
        stored = run_null_worker(settings, REVIEWS)
        published = finish(start_worker(settings, "benchmarks.sink_worker", REVIEWS))
        cost = published["cpu_seconds"] / published["rows"] * 1e6
        return _rate(stored, "reviews"), _rate(published, "rows"), cost


def _beside(services: Services, topic: str) -> float:
    """The worker while a sink forwards what it stores."""
    with services.database() as url, services.topic() as target:
        prepare(url)
        settings = _settings(services, url, topic, target)
        sink = start_worker(settings, "benchmarks.sink_worker", REVIEWS)
        time.sleep(_START_SECONDS)  # it has begun and looks for rows
        stored = run_null_worker(settings, REVIEWS)
        finish(sink)  # every row arrived
        return _rate(stored, "reviews")


def _rate(found: dict[str, Any], what: str) -> float:
    return float(found[what] / found["seconds"])


def _settings(services: Services, url: str, topic: str, target: str) -> dict[str, str]:
    sinks = json.dumps([{"topic": target}])
    group = secrets.token_hex(4)
    return environment(services.bootstrap_servers, url, topic, group, REVIEWLOOP_SINKS=sinks)


if __name__ == "__main__":
    main()
