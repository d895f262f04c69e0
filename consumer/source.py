"""The records of the partitions that this worker owns, between Kafka and the stored offsets.

Invariant I5: after every assignment, error or lost compare-and-set, the fetch position equals the stored
offset. A partition is therefore *positioned* only by reading the stored offset and seeking there. A
rebalance, a lost compare-and-set, an error or a topic made anew invalidates the position: nothing is
delivered until the partition is positioned again.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic

import structlog

from broker.settings import KafkaSettings
from broker.subscription import OutOfRange, Record, Subscription, TopicPartition
from consumer.batch import AcceptedT, Batch, Batcher
from consumer.liveness import Backlog
from consumer.measures import Measures
from consumer.settings import ConsumerSettings
from reviews.dead_letter import DeadLetter
from reviews.errors import StreamError
from reviews.retry import Retry
from storage.stream.partitions import PartitionStore, StreamPosition

log = structlog.get_logger()

_CHECK_SECONDS = 30.0
_SKIP_SECONDS = 1.0

Parse = Callable[[Iterable[Record], datetime, ConsumerSettings], list[AcceptedT | DeadLetter]]
"""One outcome per record, in order; the records, when they were received (UTC), and the settings."""


@dataclass(slots=True)
class PartitionState:
    """What is known of one partition that is ours, or was and still has records on their way.

    Attributes:
        stored: The stored position that it was positioned at; None while it is not positioned.
        expected: The offset that continues what was delivered.
        submitted: The offset behind the last record that was handed to the worker, in a batch.
        acknowledged: The offset behind the last record whose fate is known.
        is_owned: Whether it is ours now.
        is_at_gap: Whether the next offset is not there: positioned anew once all that was delivered is
            acknowledged.
    """

    stored: StreamPosition | None = None
    expected: int = 0
    submitted: int = 0
    acknowledged: int = 0
    is_owned: bool = True
    is_at_gap: bool = False

    @property
    def is_in_flight(self) -> bool:
        """Whether records are on their way to the database."""
        return self.submitted != self.acknowledged


class Source(Generic[AcceptedT]):
    """Batches of the partitions that this worker owns, each from its stored offset on.

    Args:
        settings: How records are cut into batches.
        subscription: The member of the consumer group.
        positions: The stored offsets.
        parse: Makes outcomes of records.
        clock: Seconds of a monotonic clock.
    """

    def __init__(
        self,
        settings: ConsumerSettings,
        subscription: Subscription,
        positions: PartitionStore,
        parse: Parse[AcceptedT],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._subscription = subscription
        self._positions = positions
        self._parse = parse
        self._clock = clock
        self._batcher = Batcher[AcceptedT](settings)
        self._states: dict[TopicPartition, PartitionState] = {}
        self._checked_at = clock()
        self._skipped_at = clock()
        self._is_paused = False
        self._is_missing = False
        self._gaps = 0
        self._gap_records = 0

    @property
    def topic(self) -> str:
        """The name of the topic."""
        return self._subscription.topic

    def poll(self, timeout_seconds: float) -> int:
        """Put new records of positioned partitions into batches; how many there were.

        Raises:
            Unavailable: If the database or the brokers do not answer; try again later.
            StreamError: If the stored offset is one that the topic never had, or has no more.
        """
        self._note_changes()
        self._free_gaps()
        self._check_quiet()
        self._position_all()
        try:
            delivered = self._subscription.poll(timeout_seconds)
        except OutOfRange as err:
            self._close_gaps(err)
            return 0
        # A rebalance during the poll may have given what it returned to another worker.
        self._note_changes()
        received_at, now = datetime.now(UTC), self._clock()
        count = 0
        for partition, records in delivered.items():
            count += self._accept(partition, records, received_at, now)
        # Beside steady traffic as well, but more rarely: no poll is empty then, and there are many of them.
        if not count or now - self._skipped_at >= _SKIP_SECONDS:
            self._skipped_at = now
            self._skip_undelivered(now)
        return count

    def take(self) -> Batch[AcceptedT] | None:
        """The next batch that is ready, from now on in flight; None: not yet."""
        return self._submitted(self._batcher.take(self._clock()))

    def take_rest(self) -> Batch[AcceptedT] | None:
        """The next batch, ready or not; None: nothing is left."""
        return self._submitted(self._batcher.take_rest())

    def seconds_left(self) -> float:
        """How long until :meth:`take` has a batch, if no more records come."""
        return self._batcher.seconds_left(self._clock())

    def acknowledge(self, stored: Mapping[TopicPartition, int], lost: Mapping[TopicPartition, int]) -> None:
        """Take note of how a batch ended.

        Args:
            stored: The offset behind the stored records, by partition.
            lost: The same for partitions that another worker moved meanwhile; they are positioned anew.
        """
        for partition, offset in {**stored, **lost}.items():
            self._states[partition].acknowledged = offset
            self._drop_if_gone(partition)
        for partition in lost:
            log.warning("compare_and_set_lost", topic=partition.topic, partition=partition.partition)
            self._invalidate(partition)
        self._subscription.commit(
            {partition: offset for partition, offset in stored.items() if self._is_positioned(partition)}
        )

    def is_reachable(self) -> bool:
        """Whether a broker answered lately."""
        return self._subscription.is_reachable()

    def measure(self, measures: Measures) -> None:
        """Say what is owned, and how far each positioned partition is from its end."""
        measures.gaps, measures.gap_records = self._gaps, self._gap_records
        measures.is_member = self._subscription.is_member()
        measures.partitions = sum(state.is_owned for state in self._states.values())
        ends = {partition: self._subscription.end_offset(partition) for partition in self._positioned()}
        measures.lag_records = {
            partition: max(0, end - self._states[partition].acknowledged)
            for partition, end in ends.items()
            if end is not None
        }

    def pause(self) -> None:
        """Stop deliveries, but stay in the group."""
        if not self._is_paused:
            self._is_paused = True
            self._subscription.pause(self._positioned())

    def resume(self) -> None:
        """Let deliveries go on."""
        if self._is_paused:
            self._is_paused = False
            self._subscription.resume(
                partition for partition in self._positioned() if not self._states[partition].is_at_gap
            )

    def invalidate_positions(self) -> None:
        """Invalidate every position: after an error, each is read from the database again (I5)."""
        for partition in list(self._states):
            self._invalidate(partition)

    def backlog(self) -> Backlog:
        """What no worker has stored of the whole topic, asked of the brokers first and the database then.

        Raises:
            Unavailable: If one of them does not answer.
        """
        ends = self._subscription.end_offsets()
        topic_id = self._subscription.topic_id()
        stored = self._positions.next_offsets(self._subscription.cluster_id, topic_id) if topic_id else {}
        owned = frozenset(name.partition for name, state in self._states.items() if state.is_owned)
        return Backlog(self._subscription.topic, ends, stored, owned)

    @property
    def is_settled(self) -> bool:
        """Whether every assigned partition is positioned and nothing is on its way."""
        waiting = any(state.is_owned and state.stored is None for state in self._states.values())
        return not waiting and not self.has_in_flight

    @property
    def has_in_flight(self) -> bool:
        """Whether records of any partition are on their way to the database."""
        return any(state.is_in_flight for state in self._states.values())

    def _accept(
        self, partition: TopicPartition, records: Sequence[Record], received_at: datetime, now: float
    ) -> int:
        state = self._states.get(partition)
        if state is None or state.stored is None:
            return 0
        if self._subscription.topic_id() != state.stored.topic_id:
            self._invalidate(partition)
            return 0
        if records[0].offset < state.expected:
            # Kafka answered an older request; what comes before the expected offset is stored or on its way.
            records = [record for record in records if record.offset >= state.expected]
        outcomes = self._parse(records, received_at, self._settings)
        partition_id = state.stored.partition_id
        state.expected = self._batcher.add(partition, partition_id, state.expected, outcomes, now)
        return len(records)

    def _skip_undelivered(self, now: float) -> None:
        """Go on where Kafka went past offsets without delivering them (transaction markers, compaction).

        All that was delivered is in batches by now, or what lies before a position would be skipped.
        """
        for partition, state in self._states.items():
            if state.stored is None or state.is_in_flight:
                continue
            position = self._subscription.position(partition)
            if position is not None and position > state.expected:
                self._batcher.skip(partition, state.stored.partition_id, state.expected, position, now)
                state.expected = position

    def _submitted(self, batch: Batch[AcceptedT] | None) -> Batch[AcceptedT] | None:
        """The batch, which counts as on its way from now on, whatever happens to its partitions."""
        if batch is None or not batch.ranges:
            return None
        for partition, part in batch.ranges.items():
            self._states[partition].submitted = part.next
        return batch

    def _positioned(self) -> list[TopicPartition]:
        return [partition for partition in self._states if self._is_positioned(partition)]

    def _is_positioned(self, partition: TopicPartition) -> bool:
        state = self._states.get(partition)
        return state is not None and state.stored is not None

    def _note_changes(self) -> None:
        for change in self._subscription.changes():
            for partition in change.partitions:
                self._invalidate(partition)
                self._states.setdefault(partition, PartitionState()).is_owned = change.assigned
                self._drop_if_gone(partition)
            log.info(
                "partitions_assigned" if change.assigned else "partitions_revoked",
                topic=self._subscription.topic,
                partitions=sorted(partition.partition for partition in change.partitions),
            )

    def _invalidate(self, partition: TopicPartition) -> None:
        state = self._states.get(partition)
        if state is not None and state.stored is not None:
            state.stored = None
            state.is_at_gap = False
            self._subscription.pause([partition])
            self._batcher.drop(partition)

    def _drop_if_gone(self, partition: TopicPartition) -> None:
        state = self._states[partition]
        if not state.is_owned and not state.is_in_flight:
            del self._states[partition]

    def _check_quiet(self) -> None:
        """Invalidate quiet partitions whose stored offset has moved.

        Busy partitions need no check: their next compare-and-set fails.

        Behind a pooler another server may take the database's place, without its last commits, and no
        connection is lost: what those commits held would be missing until new records come.
        """
        quiet = {
            partition: state
            for partition, state in self._states.items()
            if state.stored and not state.is_in_flight
        }
        now, topic_id = self._clock(), self._subscription.topic_id()
        if not quiet or topic_id is None or now - self._checked_at < _CHECK_SECONDS:
            return
        self._checked_at = now
        stored = self._positions.next_offsets(self._subscription.cluster_id, topic_id)
        for partition, state in quiet.items():
            found = stored.get(partition.partition)
            if found != state.acknowledged:
                log.warning(
                    "stored_offset_moved",
                    topic=partition.topic,
                    partition=partition.partition,
                    from_offset=state.acknowledged,
                    to_offset=found,
                )
                self._invalidate(partition)

    def _position_all(self) -> None:
        for partition, state in self._states.items():
            # While older records are on their way, the stored offset is about to move.
            if state.is_owned and state.stored is None and not state.is_in_flight:
                self._position(partition, state)

    def _position(self, partition: TopicPartition, state: PartitionState) -> None:
        topic_id = self._subscription.topic_id()
        if topic_id is None:  # it is gone, or its metadata is on the way
            if not self._is_missing:
                log.warning("topic_missing", topic=partition.topic, detail="Waiting until it is there.")
            self._is_missing = True
            return
        self._is_missing = False
        stream = self._find_or_register(partition, topic_id)
        if not self._subscription.seek(partition, stream.next_offset):
            return
        state.stored = stream
        state.expected = state.submitted = state.acknowledged = stream.next_offset
        if self._is_paused:
            self._subscription.pause([partition])
        self._subscription.commit({partition: stream.next_offset})
        log.info(
            "partition_positioned",
            topic=partition.topic,
            partition=partition.partition,
            offset=stream.next_offset,
        )

    def _find_or_register(self, partition: TopicPartition, topic_id: str) -> StreamPosition:
        cluster_id = self._subscription.cluster_id
        known = self._positions.find(cluster_id, topic_id, partition.partition)
        if known is not None:
            return known
        topic = partition.topic
        if self._positions.other_streams(cluster_id, topic, topic_id):
            log.warning(
                "topic_made_anew",
                topic=topic,
                partition=partition.partition,
                detail="The topic was deleted and made again; it is read as a new stream, old rows stay.",
            )
        elif self._positions.is_read(cluster_id, topic_id):
            log.info("partition_added", topic=topic, partition=partition.partition)
        else:
            # All of them at once: what is not among them later on was added since.
            self._positions.register_all(cluster_id, topic, topic_id, self._subscription.start_offsets())
            known = self._positions.find(cluster_id, topic_id, partition.partition)
            if known is not None:
                return known
        # No worker has seen any of it: it is read from its beginning, independent of the setting.
        start, _ = self._subscription.bounds(partition)
        return self._positions.register(cluster_id, topic, topic_id, partition.partition, start)

    def _free_gaps(self) -> None:
        for partition, state in self._states.items():
            if state.is_at_gap and state.acknowledged == state.expected:
                self._invalidate(partition)

    def _close_gaps(self, missing: OutOfRange) -> None:
        self._subscription.refresh()  # a topic made anew has neither the old offsets nor the old log
        topic_id = self._subscription.topic_id()
        for partition in missing.partitions:
            state = self._states.get(partition)
            if state is None or state.stored is None:
                continue
            stream = state.stored
            if topic_id != stream.topic_id:
                self._invalidate(partition)
            elif missing.lost_delivered:
                raise StreamError(
                    f"The brokers lost records of {partition.topic}[{partition.partition}] that they had "
                    "delivered (an unclean leader election?): start the worker again to go on at the stored "
                    "offset, and publish anew what took the lost records' offsets."
                )
            elif state.expected != stream.next_offset:
                # Records before the gap are in hand: they are stored first, and the gap is found again.
                state.is_at_gap = True
                self._subscription.pause([partition])
            else:
                self._close_gap(partition, stream)
                self._invalidate(partition)

    def _close_gap(self, partition: TopicPartition, stream: StreamPosition) -> None:
        first, end = self._subscription.bounds(partition)
        if stream.next_offset > end:
            raise StreamError(
                f"The stored offset {stream.next_offset} of {partition.topic}[{partition.partition}] is "
                f"beyond the topic's end {end}: the brokers lost data, or the database is another cluster's. "
                "Name the cluster that belongs to the database, or make the topic anew, as a new stream."
            )
        if stream.next_offset < first and self._positions.record_gap(
            stream.partition_id, stream.next_offset, first
        ):
            self._gaps += 1
            self._gap_records += first - stream.next_offset
            log.error(
                "records_lost_to_retention",
                topic=partition.topic,
                partition=partition.partition,
                first_offset=stream.next_offset,
                next_offset=first,
                detail="Kafka deleted records before they were read; the gap is recorded in stream_gap.",
            )


def subscribe(
    kafka: KafkaSettings,
    topic: str,
    options: ConsumerSettings,
    stopping: threading.Event,
    measures: Measures | None = None,
    *,
    warns_if_missing: bool = True,
) -> Subscription:
    """A member of the consumer group that reads a topic, which need not exist yet.

    Args:
        kafka: How to reach the brokers, and the group.
        topic: The topic.
        options: The longest pause between two attempts, and how long a message may be.
        stopping: Ends the waiting.
        measures: Where failed attempts are counted.
        warns_if_missing: Whether a topic that does not exist is worth a warning.

    Raises:
        Unavailable: If ``stopping`` was set while no broker answered.
        WrongUse: If no broker is configured.
    """
    retry = Retry(
        "kafka_unavailable",
        "kafka_back",
        longest_seconds=options.retry_max_seconds,
        wait=stopping.wait,
        note=(measures or Measures()).noting("kafka", by="subscription"),
        topic=topic,
    )
    return retry(lambda: _subscribe(kafka, topic, options.max_message_bytes, warns_if_missing))


def _subscribe(
    kafka: KafkaSettings, topic: str, max_message_bytes: int, warns_if_missing: bool
) -> Subscription:
    subscription = Subscription(kafka, topic, max_message_bytes)
    try:
        if warns_if_missing and not subscription.topic_exists():
            log.warning("topic_missing", topic=topic, detail="Waiting until it is made.")
    except BaseException:
        subscription.close()
        raise
    return subscription
