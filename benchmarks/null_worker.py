"""One worker of the real parts, wired as the product wires it, around a classifier that takes no time.

``python -m benchmarks.null_worker COUNT`` with the product's settings in the environment: it ends
when so many reviews are stored and prints what it saw as JSON. With REVIEWLOOP_BENCH_LATENCY=1 it also keeps
how long each review took.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from classifier.devices import Execution
from consumer.measures import Measures
from consumer.worker import Worker
from reviewloop.operations.logs import configure_logging
from reviewloop.settings import load_settings
from reviewloop.wiring import workers
from reviews.adapter import AdapterVersion
from reviews.prediction import Prediction

NULL_ADAPTER = AdapterVersion(
    version="sentiment-0123456789ab",
    task="sentiment",
    labels=("negative", "neutral", "positive"),
    base_model="none",
    base_revision=None,
    content_hash="01" * 32,
)
KEEP_LATENCIES = os.environ.get("REVIEWLOOP_BENCH_LATENCY") == "1"
_ANSWER = Prediction("sentiment", "positive", 0.9, (0.04, 0.06, 0.9), 0.84, 0.39, False, NULL_ADAPTER.version)


class NullClassifier:
    """Says the same of every text at once."""

    task = NULL_ADAPTER.task
    adapter_version = NULL_ADAPTER.version
    execution = Execution("none", "it says the same of every text", "none", "none", "it calculates nothing")

    def encode(self, texts: Sequence[str]) -> int:
        return len(texts)

    def score(self, encoded: int) -> list[Prediction]:
        return [_ANSWER] * encoded


def resident_megabytes() -> float:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * 4096 / 1e6


def peak_megabytes() -> float:
    # Not getrusage: a child begins there with the most that its parent had.
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024 / 1e6


class Watch(Measures):
    """When the first record came and the last commit ended, each review's way to its row, and the memory."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count
        self.milliseconds: list[float] = []  # from a review's Kafka time to its committed row
        self.stopping = threading.Event()
        self.first_delivery = 0.0
        self.commits: list[tuple[float, int]] = []
        self.memory: list[tuple[int, float]] = []

    def poll(self, original: Any) -> Any:
        def noted(timeout_seconds: float) -> Any:
            deliveries = original(timeout_seconds)
            if deliveries and not self.first_delivery:
                self.first_delivery = time.monotonic()
            return deliveries

        return noted

    def arrived(self, timestamps_ms: Sequence[int], now_ms: float) -> None:
        super().arrived(timestamps_ms, now_ms)
        if KEEP_LATENCIES:
            self.milliseconds += [now_ms - stamp for stamp in timestamps_ms]

    def progress(self, totals: Any) -> None:
        self.commits.append((time.monotonic(), totals.accepted))
        if not self.memory or totals.accepted - self.memory[-1][0] >= 20_000:
            self.memory.append((totals.accepted, resident_megabytes()))
        if totals.accepted >= self._count:
            self.stopping.set()


def run(count: int, prepared: Callable[[Worker], None] = lambda _: None) -> dict[str, Any]:
    """Work until so many reviews are stored; ``prepared`` gets the worker before it starts."""
    watch = Watch(count)
    with workers.open_worker(load_settings(), watch.stopping, watch.progress, watch) as worker:
        worker._source.poll = watch.poll(worker._source.poll)
        prepared(worker)
        totals = worker.run()
    return {
        "reviews": totals.accepted,
        "seconds": watch.commits[-1][0] - watch.first_delivery,
        "commits": len(watch.commits),
        "memory": watch.memory,
        "peak_megabytes": peak_megabytes(),
        "milliseconds": watch.milliseconds,
    }


if __name__ == "__main__":
    configure_logging()
    workers.load_registered = lambda *_: NullClassifier()
    print(json.dumps(run(int(sys.argv[1]))))
