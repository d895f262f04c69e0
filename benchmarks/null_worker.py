"""One worker of the real parts, wired as the product wires it, around a classifier that takes no time.

``python -m benchmarks.null_worker COUNT`` with the product's settings in the environment: it ends
when so many reviews are stored and prints what it saw as JSON.
"""

import json
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reviewloop import wiring
from reviewloop.logs import configure_logging
from reviewloop.settings import load_settings
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
_ANSWER = Prediction("sentiment", "positive", 0.9, (0.04, 0.06, 0.9), 0.84, 0.39, False, NULL_ADAPTER.version)


class NullClassifier:
    """Says the same of every text at once."""

    task = NULL_ADAPTER.task
    adapter_version = NULL_ADAPTER.version

    def encode(self, texts: Sequence[str]) -> int:
        return len(texts)

    def score(self, encoded: int) -> list[Prediction]:
        return [_ANSWER] * encoded


def resident_megabytes() -> float:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * 4096 / 1e6


class Watch:
    """When the first record came, when the last commit ended, and the memory on the way."""

    def __init__(self, count: int) -> None:
        self._count = count
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

    def progress(self, totals: Any) -> None:
        self.commits.append((time.monotonic(), totals.reviews))
        if not self.memory or totals.reviews - self.memory[-1][0] >= 20_000:
            self.memory.append((totals.reviews, resident_megabytes()))
        if totals.reviews >= self._count:
            self.stopping.set()


def run(count: int) -> dict[str, Any]:
    configure_logging()
    wiring.load_registered = lambda *_: NullClassifier()
    watch = Watch(count)
    with wiring.open_worker(load_settings(), watch.stopping, watch.progress) as worker:
        worker._source.poll = watch.poll(worker._source.poll)
        totals = worker.run()
    return {
        "reviews": totals.reviews,
        "seconds": watch.commits[-1][0] - watch.first_delivery,
        "commits": len(watch.commits),
        "memory": watch.memory,
    }


if __name__ == "__main__":
    print(json.dumps(run(int(sys.argv[1]))))
