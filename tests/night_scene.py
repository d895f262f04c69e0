"""A database with labelled reviews and a tiny model, for nights of seconds.

Reviews are told apart by their first letters, which a tiny model learns at once; the adapter that serves at
first is random and knows nothing.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
from sqlalchemy import text

from classifier.adapters.manifest import describe_adapter, read_files
from reviewloop.settings import Settings
from reviewloop.wiring.nightly import make_runner
from reviews.adapter import Activation
from reviews.label import Label
from reviews.prediction import Prediction
from reviews.record_id import record_id
from reviews.slices import SliceShares, slice_of
from reviews.stream_records import PartitionRange
from reviews.training_run import TrainingRun
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.labels.store import LabelStore
from storage.learning.runs import TrainingRunStore
from storage.stream.partitions import PartitionStore
from storage.stream.review_writer import ReviewWriter
from tests.scored import scored_review
from tests.tiny import SENTIMENTS, tiny_adapter
from trainer.nightly.run import Ledger
from trainer.nightly.runner import Order, Runner

TASK = "sentiment"
T0 = datetime(2026, 3, 1, tzinfo=UTC)
FRESH = {"name": "base-all", "start": "base", "replay": True, "learning_rate": 1e-2}
HEAD = {"name": "head-base", "kind": "head", "start": "base"}
WARM = {"name": "warm-all", "start": "active", "replay": True, "learning_rate": 1e-2}


def settings_for(url: str, base: Path, folder: Path, **nightly: Any) -> dict[str, Any]:
    """Settings of nights that take seconds, by section."""
    return {
        "database": {"url": url},
        "classifier": {"base_model": str(base), "device": "cpu", "precision": "fp32"},
        "consumer": {"adapter_cache": str(folder / "cache")},
        "trainer": {
            "epochs": 4,
            "least_steps": 0,
            "batch_size": 16,
            "gate": {"min_rows": 40, "min_class_rows": 5},
            "selection": {"items_per_night": 10, "audit_items_per_night": 5, "skip_near_duplicates": False},
            "nightly": {"recipes": [FRESH], "enough_validation_rows": 15, **nightly},
        },
    }


class NightScene:
    """A migrated database in which a random adapter serves.

    Args:
        url: Of a migrated database.
        base: A tiny base model.
        folder: For adapters.
    """

    def __init__(self, url: str, base: Path, folder: Path) -> None:
        self.url = url
        self.base = base
        self.folder = folder
        self.settings = Settings(**settings_for(url, base, folder))
        self.database = Database(self.settings.database)
        self.adapters = AdapterStore(self.database)
        self.runs = TrainingRunStore(self.database)
        self._partition = PartitionStore(self.database).register("c", "reviews", "topic", 0, 0).partition_id
        self._next = 0
        self._random = np.random.default_rng(0)

    def serve(self, **more: Any) -> Activation:
        """Register a random adapter and let it serve."""
        manifest, files = read_files(tiny_adapter(self.base, self.folder / "adapters", **more))
        adapter = describe_adapter(manifest)
        self.adapters.add(adapter, files)
        return self.adapters.activate(
            adapter, expected=self.adapters.active(adapter.task), decided_by="test", reason="it is told to"
        )

    def publish(
        self, count: int, edit: str | None = None, shadow: str | None = None
    ) -> list[tuple[int, str, int]]:
        """Store scored reviews, or another version of one; record, review id and true class of each.

        What serves calls all of them neutral, an adapter on trial (its version) positive.
        """
        active = self.adapters.active(TASK)
        reviews, told = [], []
        for number in range(count):
            truth = int(self._random.integers(0, 3))
            body = "abc"[truth] * 3 + "".join(self._random.choice(list("xyz"), 8))
            said = (
                ()
                if active is None
                else (Prediction(TASK, "neutral", 0.4, (0.3, 0.4, 0.3), 0.1, 1.09, False, active.version),)
            )
            tried = Prediction(TASK, "positive", 0.4, (0.3, 0.3, 0.4), 0.1, 1.09, False, shadow or "")
            review_id = edit or f"review-{self._next + number}"
            at = T0 + timedelta(minutes=self._next + number)
            reviews.append(
                scored_review(self._next + number, review_id, body, "kettle",
                             "shop", None, at, at, said, shadows=(tried,) if shadow else ())
            )  # fmt: skip
            told.append((record_id(self._partition, self._next + number), review_id, truth))
        part = PartitionRange(self._partition, self._next, self._next + count, reviews)
        assert ReviewWriter(self.database).write([part]).lost == frozenset()
        self._next += count
        return told

    def label(
        self,
        told: Sequence[tuple[int, str, int]],
        say: Callable[[str, int], int] | None = None,
        names: Sequence[str] = SENTIMENTS,
    ) -> None:
        """Label reviews with the name of their true class, or of what ``say`` makes of slice and class."""
        shares, now = SliceShares(), datetime.now(UTC)
        answers = [
            Label(record, TASK, names[say(slice_of(review_id, shares), truth) if say else truth],
                  "ann", "test", now)
            for record, review_id, truth in told
        ]  # fmt: skip
        LabelStore(self.database).add(answers)

    def runner(
        self,
        wrap: Callable[[Ledger], Ledger] = lambda ledger: ledger,
        stopping: Event | None = None,
        **nightly: Any,
    ) -> Runner:
        """A trainer with other settings of the night."""
        settings = Settings(**settings_for(self.url, self.base, self.folder, **nightly))
        runner = make_runner(settings, self.database, stopping or Event())
        runner._wrap = wrap
        return runner

    def night(self, **nightly: Any) -> TrainingRun:
        """One night, to its end."""
        return self.runner(**nightly).run(order())

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query returns."""
        with self.database.begin() as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    def execute(self, statement: str) -> None:
        """Run a statement."""
        with self.database.begin() as connection:
            connection.execute(text(statement))

    def expire_leases(self) -> None:
        """Let time pass, as far as leases are concerned."""
        self.execute("UPDATE lease SET expires_at = clock_timestamp()")

    def counts(self) -> dict[str, int]:
        """How many rows each table of the loop has."""
        tables = ("training_run", "training_item", "adapter", "adapter_activation", "label_task", "lease",
                  "waiting_label", "label")  # fmt: skip
        return {table: self.rows(f"SELECT count(*) FROM {table}")[0][0] for table in tables}

    def close(self) -> None:
        """Close the database."""
        with closing(self.database):
            pass


def order(trigger: str = "manual", seed: int = 0, budget_seconds: float = 600) -> Order:
    """A run of the task."""
    return Order(TASK, trigger, seed, budget_seconds)
