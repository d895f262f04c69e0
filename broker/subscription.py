"""One topic, read as a member of a consumer group.

kafka-python runs rebalance callbacks on its I/O thread, where blocking stops the heartbeats. The callback
therefore only pauses what was assigned and leaves a note; the thread that polls reads the notes, finds the
position of each partition wherever it is kept, and seeks there. Nothing is delivered before that.
"""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import NamedTuple, Protocol

import structlog
from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.coordinator.base import MemberState
from kafka.errors import KafkaError, LogTruncationError, NoOffsetForPartitionError, OffsetOutOfRangeError
from kafka.structs import OffsetAndMetadata

from broker.connections import describe_errors, open_consumer
from broker.fetching import bound_fetches
from broker.settings import KafkaSettings
from reviews.errors import ReviewLoopError
from reviews.retry import Outage

__all__ = ["AssignmentChange", "OutOfRange", "Record", "Subscription", "TopicPartition"]

log = structlog.get_logger()

_ANSWER_MS = 10_000
"""How long a question to the brokers may take; kafka-python would ask for ever."""
_LEAVE_MS = 5_000
"""How long leaving the group may take; unavailable brokers notice the absence by themselves."""


class Record(Protocol):
    """One delivered record, as kafka-python hands it out.

    Attributes:
        offset: Its offset in the partition.
        timestamp: Milliseconds since 1970, by the producer's or the broker's clock; below 0 where unknown.
        key: Raw bytes; :class:`~reviews.record_value.CutBytes` where it is too long to be held.
        value: Raw bytes, cut like the key; None is a tombstone.
        headers: Names and raw values.
    """

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class AssignmentChange(NamedTuple):
    """Partitions that came (paused, at a placeholder position) or went."""

    assigned: bool
    partitions: frozenset[TopicPartition]


class OutOfRange(ReviewLoopError):
    """Kafka does not hold the offsets that were asked for.

    Attributes:
        partitions: Where; each has to be placed anew.
        lost_delivered: Whether Kafka held records before these offsets, delivered them, and has others now.
    """

    def __init__(self, partitions: Collection[TopicPartition], *, lost_delivered: bool = False) -> None:
        super().__init__(f"Kafka does not hold the next offsets of {sorted(partitions)}.")
        self.partitions = frozenset(partitions)
        self.lost_delivered = lost_delivered


class Subscription:
    """A member of the consumer group; used by one thread.

    Args:
        settings: How to reach the brokers, and the group.
        topic: What to read.
        max_value_bytes: Longer keys and values are delivered cut.

    Attributes:
        topic: The name of the topic that it reads.

    Raises:
        Unavailable: From every method that talks to the brokers, if they do not answer.
    """

    def __init__(self, settings: KafkaSettings, topic: str, max_value_bytes: int) -> None:
        self._settings = settings
        self.topic = topic
        self._changes: SimpleQueue[AssignmentChange] = SimpleQueue()
        self._commits = Outage("kafka_commit_failed", "kafka_commits_again", topic=topic)
        self._consumer = open_consumer(settings)
        self._allowance = bound_fetches(self._consumer, max_value_bytes)
        self._delivered_at = time.monotonic()
        self._consumer.subscribe([topic], listener=_Listener(self._consumer, self._changes))

    def close(self) -> None:
        """Leave the group, so that others take the partitions at once."""
        try:
            self._consumer.close(autocommit=False, timeout_ms=_LEAVE_MS)
        except KafkaError as err:
            log.warning("kafka_close_failed", error=type(err).__name__)

    @property
    def cluster_id(self) -> str:
        """The id of the Kafka cluster."""
        return str(self._consumer._client.cluster.cluster_id)  # noqa: SLF001  it has no public accessor

    def topic_id(self) -> str | None:
        """The id of the topic, which another topic of the same name does not share; None: not known now."""
        found = self._consumer._client.cluster.topic_id(self.topic)  # noqa: SLF001  it has no public accessor
        return str(found) if found else None

    def is_reachable(self) -> bool:
        """Whether a broker answered lately; when all is quiet they are asked, but not waited for."""
        cluster = self._consumer._client.cluster  # noqa: SLF001  kafka-python tells this nowhere else
        answered_at = cluster._last_successful_refresh_ms / 1000  # noqa: SLF001  of the monotonic clock
        silent_seconds = time.monotonic() - max(answered_at, self._delivered_at)
        if silent_seconds > self._settings.silence_seconds / 3:
            cluster.request_update()
        return bool(silent_seconds <= self._settings.silence_seconds)

    def refresh(self) -> None:
        """Learn anew what the brokers know of the topic, its id above all."""
        consumer = self._consumer
        with describe_errors(self._settings):
            update = consumer._client.cluster.request_update()  # noqa: SLF001  topics() has no time-out
            consumer._net.run(consumer._manager.wait_for, update, _ANSWER_MS)  # noqa: SLF001  the same

    def topic_exists(self) -> bool:
        """Whether the brokers know the topic."""
        with describe_errors(self._settings):
            return bool(self._consumer.partitions_for_topic(self.topic))

    def changes(self) -> list[AssignmentChange]:
        """What came and went since the last call, in order."""
        found = []
        try:
            while True:
                found.append(self._changes.get_nowait())
        except Empty:
            return found

    def poll(self, timeout_seconds: float) -> Mapping[TopicPartition, Sequence[Record]]:
        """What was delivered; empty after the time-out, and also while no broker answers.

        About :data:`~broker.fetching.MAX_POLL_BYTES` at most, and one record beyond.

        Raises:
            OutOfRange: If Kafka deleted the next offsets of a partition, never had them, or lost its log.
        """
        with describe_errors(self._settings):
            self._finish_rebalance()
            self._allowance.renew()
            try:
                delivered: Mapping[TopicPartition, Sequence[Record]] = self._consumer.poll(
                    timeout_ms=int(timeout_seconds * 1000)
                )
            except OffsetOutOfRangeError as err:
                raise OutOfRange(err.args[0]) from err
            except NoOffsetForPartitionError:
                return {}  # a partition that is not positioned yet
            except LogTruncationError as err:
                raise OutOfRange(err.divergent_offsets, lost_delivered=True) from err
            if delivered:
                self._delivered_at = time.monotonic()
            return delivered

    def _finish_rebalance(self) -> None:
        """Make kafka-python take the answer to a rebalance that went on after a poll() had ended.

        It rejoins the group when partitions appear, and forgets why while it waits for the answer: when that
        comes between two polls, nobody reads it, and the new partitions stay unread for ever (3.0.12).
        """
        coordinator = self._consumer._coordinator  # noqa: SLF001  kafka-python offers no other way
        if coordinator.rejoining:
            coordinator.request_rejoin()

    def seek(self, partition: TopicPartition, offset: int) -> bool:
        """Let the partition be delivered from this offset on; False where it went away meanwhile."""
        try:
            self._consumer.seek(partition, offset)
            self._consumer.resume(partition)
        except (ValueError, KeyError, KafkaError):
            return False  # revoked: the note about it is on its way
        return True

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Deliver nothing from these partitions for now; polling goes on and keeps the membership."""
        for partition in self._consumer.assignment() & set(partitions):
            with suppress(KeyError):  # revoked by the I/O thread meanwhile
                self._consumer.pause(partition)

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Deliver from these partitions again."""
        for partition in self._consumer.assignment() & set(partitions):
            with suppress(KeyError):  # the same
                self._consumer.resume(partition)

    def position(self, partition: TopicPartition) -> int | None:
        """The next offset to be delivered, past what Kafka never delivers; None: not known now."""
        try:
            offset: int | None = self._consumer.position(partition, timeout_ms=1_000)
        except (ValueError, KeyError, KafkaError):
            return None
        return offset

    def is_member(self) -> bool:
        """Whether it has joined the group, also without a partition."""
        return bool(self._consumer.group_metadata().state == MemberState.STABLE)

    def end_offset(self, partition: TopicPartition) -> int | None:
        """The offset after the last record when the brokers answered last; None: they did not yet."""
        try:
            offset: int | None = self._consumer.highwater(partition)
        except KafkaError:
            return None  # revoked
        return offset

    def bounds(self, partition: TopicPartition) -> tuple[int, int]:
        """The first offset that Kafka holds and the one after the last."""
        with describe_errors(self._settings):
            first = self._consumer.beginning_offsets([partition], timeout_ms=_ANSWER_MS)[partition]
            end = self._consumer.end_offsets([partition], timeout_ms=_ANSWER_MS)[partition]
        return first, end

    def end_offsets(self) -> dict[int, int]:
        """The offset after the last readable record of each partition of the topic, asked of the brokers now.

        Where there is no such topic it is empty.
        """
        with describe_errors(self._settings):
            numbers = self._consumer.partitions_for_topic(self.topic)
            partitions = [TopicPartition(self.topic, number) for number in numbers]
            ends = self._consumer.end_offsets(partitions, timeout_ms=_ANSWER_MS) if partitions else {}
        return {partition.partition: offset for partition, offset in ends.items()}

    def start_offsets(self) -> dict[int, int]:
        """Where each partition of a topic begins that was never read, by the setting ``kafka.start``."""
        with describe_errors(self._settings):
            numbers = self._consumer.partitions_for_topic(self.topic)
            partitions = [TopicPartition(self.topic, number) for number in numbers]
            offsets = self._start_of(partitions)
        return {partition.partition: offsets[partition] for partition in partitions}

    def _start_of(self, partitions: list[TopicPartition]) -> Mapping[TopicPartition, int]:
        ask = self._consumer
        if self._settings.start == "earliest":
            return dict(ask.beginning_offsets(partitions, timeout_ms=_ANSWER_MS))
        ends: dict[TopicPartition, int] = dict(ask.end_offsets(partitions, timeout_ms=_ANSWER_MS))
        moment = self._settings.start_time()
        if moment is None:
            return ends
        moments = dict.fromkeys(partitions, int(moment.timestamp() * 1000))
        found = ask.offsets_for_times(moments, timeout_ms=_ANSWER_MS)
        return {**ends, **{partition: place.offset for partition, place in found.items() if place}}

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Tell Kafka's lag tools where we are; nothing depends on it, so failures are only logged."""
        if not offsets:
            return
        try:
            self._consumer.commit_async(
                {partition: OffsetAndMetadata(offset, "", -1) for partition, offset in offsets.items()},
                callback=self._note_commit,
            )
        except KafkaError as err:
            self._note_commit(offsets, err)

    def _note_commit(self, offsets: object, response: object) -> None:
        del offsets
        if not isinstance(response, Exception):
            self._commits.ended()
        else:
            self._commits.failed(type(response).__name__)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python is untyped
    """Pauses what comes and writes notes; runs on kafka-python's I/O thread."""

    def __init__(self, consumer: KafkaConsumer, changes: SimpleQueue[AssignmentChange]) -> None:
        self._consumer = consumer
        self._changes = changes

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        partitions = frozenset(assigned)
        self._consumer.pause(*partitions)
        for partition in partitions:
            # A placeholder while paused: without a position, poll() would ask Kafka for a committed one.
            self._consumer.seek(partition, 0)
        self._changes.put(AssignmentChange(assigned=True, partitions=partitions))

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._changes.put(AssignmentChange(assigned=False, partitions=frozenset(revoked)))

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        self.on_partitions_revoked(lost)
