"""The bare classifier and then a worker with the same classifier, in one process, on the same texts.

``python -m benchmarks.model_worker FILE WARM [COUNT]`` with the product's settings in the environment: FILE
holds the texts as a JSON list, the first WARM of them warm the model up. With COUNT only the worker runs,
until it has stored so many reviews.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.null_worker import run
from classifier.host import build_in_background
from consumer.worker import Worker
from reviewloop.operations.logs import configure_logging


def main() -> dict[str, Any]:
    texts = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    warm = texts[: int(sys.argv[2])]
    bare: list[float] = []

    def prepare(worker: Worker) -> None:
        # A thread that stays would slow the worker's.
        build_in_background(lambda: score_bare(worker), make_way=False)

    def score_bare(worker: Worker) -> None:
        (classifier,) = worker._pipeline._classifiers()
        classifier.predict(warm)
        if len(sys.argv) == 3:
            started = time.monotonic()
            classifier.predict(texts)
            bare.append(time.monotonic() - started)

    count = int(sys.argv[3]) if len(sys.argv) > 3 else len(texts)
    found = run(count, prepare)
    return {**found, "bare_seconds": bare[0] if bare else None}


if __name__ == "__main__":
    configure_logging()
    print(json.dumps(main()))
