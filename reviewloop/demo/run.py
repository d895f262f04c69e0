"""The demo: publishes, scores and queries the bundled reviews on a real Kafka and PostgreSQL."""

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from broker.publisher import OutgoingRecord, publish
from broker.topics import create_topics
from classifier.adapters.manifest import describe_adapter, read_files
from consumer.worker import Totals
from reviewloop.demo.sample import ADAPTER_DIRECTORY, REVIEWS_FILE, sample_reviews
from reviewloop.files.reviews import Columns, open_reviews
from reviewloop.local.places import stack_directory
from reviewloop.local.stack import Stack
from reviewloop.settings import Settings, load_settings
from reviewloop.wiring.registry import open_database
from reviewloop.wiring.workers import open_worker
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.migrate import upgrade
from storage.queries.filters import ReviewFilter
from storage.queries.reviews import find_reviews

_IDLE_SECONDS = 1.5

Say = Callable[[str], None]
ShowProgress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What came out.

    Attributes:
        rows: The scored sample reviews, by their id.
        scored: How many reviews this run scored.
        seconds: From the first poll to the last commit, the model's first passes included.
        adapter: The version that scored them.
    """

    rows: dict[str, dict[str, Any]]
    scored: int
    seconds: float
    adapter: str

    @property
    def agreement(self) -> tuple[int, int]:
        """How many sample reviews got their own label, and how many there are."""
        pairs = [(self.rows.get(review.id), review.label) for review in sample_reviews()]
        return sum(row is not None and row["label"] == label for row, label in pairs), len(pairs)


def run_demo(say: Say, show_progress: ShowProgress) -> DemoResult:
    """Publish, score and read back the bundled reviews.

    Args:
        say: Told in a sentence what each longer step does and waits for.
        show_progress: Shows the progress of one step of so many items.

    Raises:
        ReviewLoopError: If a service cannot be started or reached.
    """
    settings = settings_with_services(say)
    say("Preparing the database and the topics")
    with open_database(settings) as database:
        upgrade(database)
        adapter = activate_demo_adapter(settings, AdapterStore(database), say)
    topics = [settings.kafka.reviews_topic, settings.kafka.labels_topic]
    create_topics(settings.kafka, topics, partitions=4, replication_factor=1)
    with show_progress(f"Publishing to '{settings.kafka.reviews_topic}'", len(sample_reviews())) as progress:
        _publish_sample(settings, progress)
    say("Loading the base model and the adapter (PyTorch takes some seconds to start)")
    scored, seconds = _score(settings, show_progress)
    with open_database(settings) as database:
        return DemoResult(_read_back(database), scored, seconds, adapter)


def settings_with_services(say: Say) -> Settings:
    """The settings in effect; where no services are configured, a local stack is started first.

    Raises:
        ReviewLoopError: If it cannot be started.
    """
    settings = load_settings()
    if not settings.kafka.bootstrap_servers or not settings.database.url:
        Stack(stack_directory()).up(say)
        settings = load_settings()
    return settings


def activate_demo_adapter(settings: Settings, store: AdapterStore, say: Say) -> str:
    """Register the bundled adapter, and activate it where its task has no active one; the active version."""
    manifest, files = read_files(ADAPTER_DIRECTORY, settings.classifier.task)
    bundled = describe_adapter(manifest)
    store.add(bundled, files)
    current = store.active(bundled.task)
    if current is None:
        reason = "the bundled adapter, activated by the demo"
        return store.activate(bundled, expected=None, decided_by="demo", reason=reason).version
    if current.version != bundled.version:
        say(f"The adapter {current.version} is active here, so it scores instead of the bundled one")
    return current.version


def _publish_sample(settings: Settings, progress: Callable[[int], None]) -> None:
    with open_reviews(REVIEWS_FILE, Columns()) as file:
        records = [
            OutgoingRecord(row.message.id.encode(), row.raw) for row in file.rows if row.message is not None
        ]
    publish(settings.kafka, settings.kafka.reviews_topic, records, on_progress=progress)


def _score(settings: Settings, show_progress: ShowProgress) -> tuple[int, float]:
    """How many reviews were scored, and in how many seconds from the first poll to the last commit."""
    stored: list[tuple[int, float]] = [(0, 0.0)]
    notes: list[Callable[[int], None]] = []

    def note(totals: Totals) -> None:
        stored.append((totals.accepted, time.monotonic()))
        notes[0](totals.accepted)

    with open_worker(settings, threading.Event(), note) as worker:
        started = time.monotonic()
        with show_progress("Scorer", len(sample_reviews())) as progress:
            notes.append(progress)
            worker.run(_IDLE_SECONDS)
    scored, ended = stored[-1]
    return scored, max(0.001, ended - started)


def _read_back(database: Database) -> dict[str, dict[str, Any]]:
    wanted = {review.id for review in sample_reviews()}
    rows = find_reviews(database, ReviewFilter(task="sentiment", limit=None))
    return {row["review_id"]: row for row in rows if row["review_id"] in wanted}
