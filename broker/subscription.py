"""Topics, read as a member of a consumer group.

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
from kafka.errors import (
    KafkaError,
    LogTruncationError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    UnknownTopicOrPartitionError,
)
from kafka.structs import OffsetAndMetadata

from broker.connections import BUSY_FETCHES, QUIET_FETCHES, describe_errors, open_consumer
from broker.fetching import bound_fetches
from broker.membership import Membership
from broker.settings import KafkaSettings
from broker.topics import TopicChoice
from reviews.errors import ReviewLoopError
from reviews.retry import Outage

__all__ = ["AssignmentChange", "OutOfRange", "Record", "StartOffset", "Subscription", "TopicPartition"]

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


class StartOffset(NamedTuple):
    """Where a partition begins that was never read, and why there.

    Attributes:
        offset: The first offset to be read.
        reason: ``earliest``, ``latest``, ``time``, or ``group`` where the consumer group had committed it.
    """

    offset: int
    reason: str


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
        choice: Which topics to read.
        max_value_bytes: Longer keys and values are delivered cut.

    Attributes:
        choice: Which topics it reads.

    Raises:
        Unavailable: From every method that talks to the brokers, if they do not answer.
    """

    def __init__(self, settings: KafkaSettings, choice: TopicChoice, max_value_bytes: int) -> None:
        self._settings = settings
        self.choice = choice
        self._changes: SimpleQueue[AssignmentChange] = SimpleQueue()
        self._commits = Outage("kafka_commit_failed", "kafka_commits_again", topic=str(choice))
        self._consumer = open_consumer(settings)
        self._allowance = bound_fetches(self._consumer, max_value_bytes)
        self._membership = Membership(self._consumer)
        self._delivered_at = time.monotonic()
        listener = _Listener(self._consumer, self._changes)
        if choice.expression is None:
            self._consumer.subscribe(list(choice.names), listener=listener)
        else:
            self._consumer.subscribe(pattern=choice.expression, listener=listener)

    def close(self) -> None:
        """Leave the group, so that others take the partitions at once."""
        try:
            self._consumer.close(autocommit=False, timeout_ms=_LEAVE_MS)
        except KafkaError as err:
            log.warning("kafka_close_failed", error=type(err).__name__)

    @property
    def group_id(self) -> str:
        """The name of the consumer group."""
        return self._settings.group_id

    @property
    def start(self) -> str:
        """Where topics begin that were never read, as the settings say it."""
        return self._settings.start

    @property
    def cluster_id(self) -> str:
        """The id of the Kafka cluster."""
        return str(self._consumer._client.cluster.cluster_id)  # noqa: SLF001  it has no public accessor

    def topic_id(self, topic: str) -> str | None:
        """The id of a topic, which another topic of the same name does not share; None: not known now."""
        found = self._consumer._client.cluster.topic_id(topic)  # noqa: SLF001  it has no public accessor
        return str(found) if found else None

    def topics(self) -> list[str]:
        """The topics that it reads and that are there, by what the brokers said last."""
        known = self._consumer._client.cluster.topics()  # noqa: SLF001  the public one asks the brokers, for ever
        return self.choice.among(known)

    def is_reachable(self) -> bool:
        """Whether a broker answered lately; when all is quiet they are asked, but not waited for."""
        cluster = self._consumer._client.cluster  # noqa: SLF001  kafka-python tells this nowhere else
        answered_at = cluster._last_successful_refresh_ms / 1000  # noqa: SLF001  of the monotonic clock
        silent_seconds = time.monotonic() - max(answered_at, self._delivered_at)
        if silent_seconds > self._settings.silence_seconds / 3:
            cluster.request_update()
        return bool(silent_seconds <= self._settings.silence_seconds)

    def refresh(self) -> None:
        """Learn anew what the brokers know of the topics, their ids above all."""
        consumer = self._consumer
        with describe_errors(self._settings):
            update = consumer._client.cluster.request_update()  # noqa: SLF001  topics() has no time-out
            with suppress(UnknownTopicOrPartitionError):  # an answer, too: no topic of these is there
                consumer._net.run(consumer._manager.wait_for, update, _ANSWER_MS)  # noqa: SLF001  the same

    def missing_topics(self) -> list[str]:
        """The names of topics that the brokers do not know, and patterns that match none, asked now."""
        self.refresh()
        missing = self.choice.missing_among(self.topics())
        if missing:  # the answer may have been to a question from before it subscribed
            self.refresh()
            missing = self.choice.missing_among(self.topics())
        return missing

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
        deadline = time.monotonic() + timeout_seconds
        with describe_errors(self._settings):
            if not self._membership.join(timeout_seconds):
                return {}
            self._allowance.renew()
            try:
                delivered: Mapping[TopicPartition, Sequence[Record]] = self._consumer.poll(
                    timeout_ms=max(0, int((deadline - time.monotonic()) * 1000))
                )
            except OffsetOutOfRangeError as err:
                raise OutOfRange(err.args[0]) from err
            except NoOffsetForPartitionError:
                return {}  # a partition that is not positioned yet
            except LogTruncationError as err:
                raise OutOfRange(err.divergent_offsets, lost_delivered=True) from err
            if delivered:
                self._delivered_at = time.monotonic()
            # Each fetch costs kafka-python a look at every partition, also where there is nothing to fetch.
            self._consumer._fetcher.config.update(BUSY_FETCHES if delivered else QUIET_FETCHES)  # noqa: SLF001
            return delivered

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
        # The public one looks at every partition of the consumer at each call, and asks its I/O thread.
        state = self._consumer._subscription.assignment.get(partition)  # noqa: SLF001
        place = None if state is None else state.position
        return None if place is None else int(place.offset)

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

    def end_offsets(self) -> dict[TopicPartition, int]:
        """The offset after the last readable record of each partition, asked of the brokers now.

        Of the topics that were there when :meth:`missing_topics` or :meth:`refresh` was called last.
        """
        with describe_errors(self._settings):
            partitions = [
                TopicPartition(topic, number)
                for topic in self.topics()
                for number in self._consumer.partitions_for_topic(topic)
            ]
            found = self._consumer.end_offsets(partitions, timeout_ms=_ANSWER_MS) if partitions else {}
        return dict(found)

    def start_offsets(self, topic: str) -> dict[int, StartOffset]:
        """Where each partition of a topic begins that was never read, by the setting ``kafka.start``."""
        with describe_errors(self._settings):
            numbers = self._consumer.partitions_for_topic(topic)
            found = self._start_of([TopicPartition(topic, number) for number in numbers])
        return {partition.partition: start for partition, start in found.items()}

    def _start_of(self, partitions: list[TopicPartition]) -> dict[TopicPartition, StartOffset]:
        ask, start = self._consumer, self._settings.start
        if start in {"earliest", "group"}:
            first = ask.beginning_offsets(partitions, timeout_ms=_ANSWER_MS)
            earliest = {partition: StartOffset(offset, "earliest") for partition, offset in first.items()}
            return earliest if start == "earliest" else earliest | self._committed(partitions)
        ends = ask.end_offsets(partitions, timeout_ms=_ANSWER_MS)
        latest = {partition: StartOffset(offset, "latest") for partition, offset in ends.items()}
        moment = self._settings.start_time()
        if moment is None:
            return latest
        moments = dict.fromkeys(partitions, int(moment.timestamp() * 1000))
        found = ask.offsets_for_times(moments, timeout_ms=_ANSWER_MS)
        return latest | {
            partition: StartOffset(place.offset, "time") for partition, place in found.items() if place
        }

    def _committed(self, partitions: list[TopicPartition]) -> dict[TopicPartition, StartOffset]:
        """The offsets that the consumer group committed; partitions without one are left out."""
        coordinator = self._consumer._coordinator  # noqa: SLF001  the public way asks partition by partition
        found = coordinator.fetch_committed_offsets(partitions, timeout_ms=_ANSWER_MS)
        return {
            partition: StartOffset(place.offset, "group")
            for partition, place in found.items()
            if place.offset >= 0
        }

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
