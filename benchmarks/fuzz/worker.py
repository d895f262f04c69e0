"""The worker that is fuzzed: all of the product's parts, with a model that fails on poison.

``python -m benchmarks.fuzz.worker COUNT`` with the product's settings in the environment: it ends when so
many records are stored, or with an error, and prints its totals as JSON.
"""

import json
import re
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.fuzz.mutations import POISON
from benchmarks.null_worker import NULL_ADAPTER, NullClassifier
from reviewloop.operations.logs import configure_logging
from reviewloop.settings import load_settings
from reviewloop.wiring import workers
from reviews.prediction import Prediction

_IDLE_SECONDS = 30.0


class FailingClassifier(NullClassifier):
    """Says the same of every text, and fails where one of them has the poison."""

    def encode(self, texts: Sequence[str]) -> Any:
        return texts

    def score(self, encoded: Any) -> list[Prediction]:
        if any(POISON in text for text in encoded):
            raise RuntimeError("poison")
        return super().score(len(encoded))


def run(count: int) -> dict[str, Any]:
    configure_logging()
    workers.load_registered = lambda *_: FailingClassifier()
    stopping = threading.Event()

    def progress(totals: Any) -> None:
        if totals.accepted + totals.dead_letters >= count:
            stopping.set()

    with workers.open_worker(load_settings(), stopping, progress) as worker:
        totals = worker.run(_IDLE_SECONDS)  # where messages are lost, the account says which
    return {
        "reviews": totals.accepted,
        "dead_letters": totals.dead_letters,
        "peak_megabytes": _peak_megabytes(),
        "adapter": NULL_ADAPTER.version,
    }


def _peak_megabytes() -> int | None:
    """The most memory it held at a time; getrusage() would name the parent's where that was more."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text("ascii")) if status.exists() else None
    return found and int(found[1]) // 1000


if __name__ == "__main__":
    print(json.dumps(run(int(sys.argv[1]))))
