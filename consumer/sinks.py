"""Publishes the rows of a sink: a loop beside the main path, which waits for nothing here."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from broker.ordered_publisher import OrderedPublisher
from broker.publisher import OutgoingRecord
from reviews.errors import ReviewLoopError
from reviews.retry import Outage
from reviews.scored_row import ScoredRow, to_json
from storage.stream.sinks import SinkLag, SinkStore

log = structlog.get_logger()

_POLL_SECONDS = 0.5
_OPEN_SECONDS = 10.0
"""How often a sink looks for new partitions, and how far it is behind."""
_TYPE_PREFIX = "reviewloop.review."

Headers = list[tuple[str, bytes]]


class RowFormat(Protocol):
    """Turns rows into the bytes of messages."""

    content_type: str

    def encode(self, row: ScoredRow) -> bytes:
        """The value of a message.

        Raises:
            Unavailable: If a service that this needs does not answer.
        """


class JsonFormat:
    """Rows as JSON in UTF-8."""

    content_type = "application/json"

    def encode(self, row: ScoredRow) -> bytes:
        """One JSON object."""
        return to_json(row)


def cloud_event(row: ScoredRow, topic: str, content_type: str) -> Headers:
    """The headers of a CloudEvent in Kafka's binary mode (Kafka Protocol Binding for CloudEvents 1.0.2)."""
    return [
        ("ce_specversion", b"1.0"),
        ("ce_type", f"{_TYPE_PREFIX}{row.change}".encode()),
        ("ce_source", f"/reviewloop/{topic}".encode()),
        ("ce_id", row.event_id.encode()),
        ("ce_time", row.as_of.isoformat().encode()),
        ("ce_subject", row.review_id.encode()),
        ("content-type", content_type.encode()),
    ]


@dataclass
class SinkMeasures:
    """What the forwarding of one sink has done in this process.

    Attributes:
        topic: Of the sink.
        published: Rows, by why they were published.
        lag: How far the sink is behind, as looked up last; None before the first time.
        problem: Why the last attempt failed; empty where it did not.
        turned_at: When the loop turned last, on the monotonic clock; None before the first time.
    """

    topic: str
    published: dict[str, int] = field(default_factory=dict)
    lag: SinkLag | None = None
    problem: str = ""
    turned_at: float | None = None


class SinkForwarder:
    """Publishes the rows of one sink as they are stored, each at least once; several may share a sink.

    Args:
        store: Of the sink.
        publisher: To its topic.
        row_format: Of the messages.
        headers: Of the message of a row.
        stopping: Ends the loop.
        retry_max_seconds: The longest pause between two attempts.
        measures: Where it counts what it does.
    """

    def __init__(
        self,
        store: SinkStore,
        publisher: OrderedPublisher,
        row_format: RowFormat,
        headers: Callable[[ScoredRow], Headers | None],
        stopping: threading.Event,
        *,
        retry_max_seconds: float,
        measures: SinkMeasures,
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._format = row_format
        self._headers = headers
        self._stopping = stopping
        self._measures = measures
        self._outage = Outage(
            "sink_not_forwarded",
            "sink_forwarded_again",
            longest_seconds=retry_max_seconds,
            topic=measures.topic,
        )
        self._look_at = 0.0

    def run(self, *, until_idle: bool = False) -> int:
        """Forward until told to stop, or until everything that is stored is published; how many rows.

        Raises:
            Exception: A fault of the program; whatever explains itself is tried again, for ever.
        """
        rows = 0
        try:
            while not self._stopping.is_set():
                self._measures.turned_at = time.monotonic()
                try:
                    sent = self._forward()
                except ReviewLoopError as err:
                    self._measures.problem = str(err)
                    self._stopping.wait(self._outage.failed(err))
                    continue
                self._outage.ended()
                self._measures.problem = ""
                if sent is not None:
                    rows += sent
                elif until_idle and self._is_done():
                    break
                else:
                    self._stopping.wait(_POLL_SECONDS)
        finally:
            self._publisher.close()
        return rows

    def _forward(self) -> int | None:
        """Forward some rows of one partition."""
        self._look()
        self._publisher.connect()  # before a position is locked
        return self._store.forward(self._publish)

    def _look(self) -> None:
        if time.monotonic() >= self._look_at:
            self._store.open()
            self._measures.lag = self._store.lag()
            self._look_at = time.monotonic() + _OPEN_SECONDS

    def _is_done(self) -> bool:
        """Whether nothing is left, also not with another forwarder."""
        self._store.open()
        lag = self._measures.lag = self._store.lag()
        return lag is not None and not lag.records and not lag.changes

    def _publish(self, rows: Sequence[ScoredRow]) -> None:
        records = [self._record(row) for row in rows]
        self._publisher.publish(records, lambda place: self._record(rows[place].without_text()))
        for row in rows:
            self._measures.published[row.change] = self._measures.published.get(row.change, 0) + 1

    def _record(self, row: ScoredRow) -> OutgoingRecord:
        value = None if row.is_tombstone else self._format.encode(row)
        return OutgoingRecord(row.review_id.encode(), value, self._headers(row))


class SinkThreads:
    """One thread for each sink; a fault of one ends all.

    Args:
        forwarders: By topic.
        stopping: Ends all of them.
    """

    def __init__(self, forwarders: dict[str, SinkForwarder], stopping: threading.Event) -> None:
        self._forwarders = forwarders
        self._stopping = stopping
        self._errors: list[BaseException] = []
        self.rows = dict.fromkeys(forwarders, 0)

    def run(self, *, until_idle: bool) -> dict[str, int]:
        """Run until told to stop, or until everything is published; how many rows, by topic.

        Raises:
            Exception: The first fault of a thread.
        """
        threads = [
            threading.Thread(target=self._run, args=(topic, until_idle), name=f"sink {topic}", daemon=True)
            for topic in self._forwarders
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._errors:
            raise self._errors[0]
        return self.rows

    def _run(self, topic: str, until_idle: bool) -> None:
        try:
            self.rows[topic] = self._forwarders[topic].run(until_idle=until_idle)
        except BaseException as err:  # noqa: BLE001  raised again where the threads are joined
            self._errors.append(err)
            self._stopping.set()
