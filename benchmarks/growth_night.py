"""What a nightly run reads, and a drift report, over the database of the environment; times and peak memory.

``python -m benchmarks.growth_night`` prints rows of name, value, bound and unit as JSON.
"""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from benchmarks.null_worker import peak_megabytes
from reviewloop.drift_reports.wiring import drift_parts
from reviewloop.settings import load_settings
from reviewloop.wiring.registry import open_database
from trainer.nightly.labels_and_questions import LabelExchange
from trainer.nightly.snapshot import freeze, weighting

TASK = "sentiment"
_Result = TypeVar("_Result")
_MOST_MEGABYTES = 1024


def main() -> None:
    settings = load_settings()
    nightly = settings.trainer.nightly
    with open_database(settings) as database:
        exchange = LabelExchange(database, TASK, settings.trainer.selection, nightly)
        rows: list[tuple[str, float, float, str]] = []
        before = peak_megabytes()
        reviews, seconds = _timed(lambda: exchange.collect(tidy=True))
        rows.append(("night: labels", seconds, 60, "s"))
        _, seconds = _timed(
            lambda: freeze(
                reviews, ("negative", "neutral", "positive"), nightly.shares, weighting(nightly), ()
            )
        )
        rows.append((f"night: dataset of {len(reviews):,} labels", seconds, 120, "s"))
        rows.append(("night: memory of the dataset", peak_megabytes() - before, _MOST_MEGABYTES, "MB"))
        questions, seconds = _timed(lambda: exchange.questions(1))
        rows.append((f"night: choice of {len(questions)} reviews", seconds, 120, "s"))
        rows.append(("night: memory of all", peak_megabytes() - before, _MOST_MEGABYTES, "MB"))
        parts = drift_parts(database, settings, TASK)
        _, seconds = _timed(lambda: parts.reporter.report(until=datetime.now(UTC)))
        rows.append(("drift report", seconds, 10, "s"))
        rows.append(("memory of the process", peak_megabytes(), 2 * _MOST_MEGABYTES, "MB"))
    print(json.dumps(rows))


def _timed(work: Callable[[], _Result]) -> tuple[_Result, float]:
    began = time.perf_counter()
    found = work()
    return found, time.perf_counter() - began


if __name__ == "__main__":
    main()
