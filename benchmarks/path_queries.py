"""How long ``reviewloop query`` waits for its rows at 1,000,000 reviews, with its default limit."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from benchmarks.figures import percentile, report, report_machine
from benchmarks.million import ADAPTERS, fill_database
from benchmarks.services import connect, open_services
from benchmarks.stream import prepare
from storage.database import Database
from storage.queries.filters import ReviewFilter
from storage.queries.reviews import find_reviews
from storage.settings import DatabaseSettings

REVIEWS = 1_000_000
REPETITIONS = 40


def main(_data: Path | None = None) -> None:
    report_machine()
    with open_services() as services, services.database() as url:
        prepare(url)
        with connect(url) as connection:
            fill_database(connection, REVIEWS)
        worst = []
        with opened(url) as database:
            for name, wanted in filters().items():
                times = measure(database, wanted)
                worst.append(percentile(times, 0.95))
                report(f"path_queries {name}", times, "ms")
                report(f"path_queries {name} p95", [worst[-1]], "ms")
        report("path_queries worst p95", [max(worst)], "ms")


def filters() -> dict[str, ReviewFilter]:
    """Every option of the command alone, with frequent, rare and absent values, and combinations."""
    now = datetime.now(UTC)
    ago = {days: now - timedelta(days=days) for days in (0.04, 1, 30, 199, 200, 300, 364, 700)}
    old, new = ADAPTERS[0], ADAPTERS[-1]
    chosen: dict[str, dict[str, Any]] = {
        "nothing": {},
        "task": {"task": "sentiment"},
        "task, absent": {"task": "nothing"},
        "label, frequent": {"label": "positive"},
        "label, rare": {"label": "negative"},
        "label, absent": {"label": "nothing"},
        "product, frequent": {"product": "product-0"},
        "product, rare": {"product": "product-999"},
        "product, absent": {"product": "nothing"},
        "source": {"source": "mail"},
        "source, absent": {"source": "nothing"},
        "id": {"review_id": "r00500000"},
        "id, absent": {"review_id": "nothing"},
        "since an hour": {"since": ago[0.04]},
        "since a month": {"since": ago[30]},
        "until long ago": {"until": ago[300]},
        "until before the first": {"until": ago[700]},
        "a day long ago": {"since": ago[200], "until": ago[199]},
        "uncertain": {"uncertain": True},
        "min-confidence 0.99": {"min_confidence": 0.99},
        "min-confidence 1, absent": {"min_confidence": 1.0},
        "adapter, first": {"adapter": old},
        "adapter, last": {"adapter": new},
        "adapter, absent": {"adapter": "nothing"},
        "label and product, both rare": {"label": "negative", "product": "product-999"},
        "label rare, product frequent": {"label": "negative", "product": "product-0"},
        "label and uncertain": {"label": "negative", "uncertain": True},
        "label and source": {"label": "neutral", "source": "shop"},
        "label and source absent": {"label": "positive", "source": "nothing"},
        "label and first adapter": {"label": "negative", "adapter": old},
        "label since a day": {"label": "negative", "since": ago[1]},
        "source until long ago": {"source": "app", "until": ago[300]},
        "source and first adapter": {"source": "web", "adapter": old},
        "source absent and first adapter": {"source": "nothing", "adapter": old},
        "product until the first day": {"product": "product-0", "until": ago[364]},
        "product and first adapter": {"product": "product-3", "adapter": old},
        "product, source and label": {"product": "product-500", "source": "web", "label": "neutral"},
        "uncertain and sure, absent": {"uncertain": True, "min_confidence": 0.9},
        "uncertain and first adapter": {"uncertain": True, "adapter": old},
        "uncertain, source, until": {"uncertain": True, "source": "web", "until": ago[200]},
        "task, label, sure, first adapter": {
            "task": "sentiment", "label": "neutral", "min_confidence": 0.999, "adapter": old,
        },
    }  # fmt: skip
    return {name: ReviewFilter(**values) for name, values in chosen.items()}


def measure(database: Database, wanted: ReviewFilter, repetitions: int = REPETITIONS) -> list[float]:
    """Milliseconds of each repetition, after one that warms the caches."""
    times = []
    for _ in range(repetitions + 1):
        started = time.perf_counter()
        list(find_reviews(database, wanted))
        times.append((time.perf_counter() - started) * 1000)
    return times[1:]


@contextmanager
def opened(url: str) -> Iterator[Database]:
    with closing(Database(DatabaseSettings(url=SecretStr(url)))) as database:
        yield database


if __name__ == "__main__":
    main()
