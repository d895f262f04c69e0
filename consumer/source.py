"""Which partitions are ours and where each of them stands, between Kafka and the stored offsets.

Invariant I5: after every assignment, error or lost compare-and-set, the fetch position equals the stored
offset. A partition is therefore *placed* only by reading the stored offset and seeking there, and what casts
doubt on it (a rebalance, a lost compare-and-set, an error, a topic made anew) takes its place away.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from broker.settings import KafkaSettings
from broker.subscription import OutOfRange, Record, Subscription, TopicPartition
from consumer.batch import Batch, Item
from consumer.measures import Measures
from consumer.settings import ConsumerSettings
from reviews.errors import StreamError
from reviews.retry import Retry
from storage.stream.partitions import PartitionStore, StreamPosition

log = structlog.get_logger()

_CHECK_SECONDS = 30.0


class Delivery(NamedTuple):
    """Records of one partition that continue its last ones."""

    partition: TopicPartition
    partition_id: int
    expected: int
    records: Sequence[Record]


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is left to read of a topic, as brokers and database said one after the other.

    Attributes:
        topic: Its name.
        ends: The offset after the last record, by partition; empty where there is no such topic.
        stored: The stored offset of each partition that any worker ever began to read.
        owned: The partitions of the worker that asked.
    """

    topic: str
    ends: Mapping[int, int]
    stored: Mapping[int, int]
    owned: frozenset[int]

    @property
    def unread(self) -> dict[int, int]:
        """Records that nobody has stored, by partition; at least 1 where nobody began to read."""
        found = {
            partition: end - self.stored[partition] if partition in self.stored else max(1, end)
            for partition, end in self.ends.items()
        }
        return {partition: records for partition, records in found.items() if records > 0}


@dataclass(slots=True)
class _Held:
    """What is known of one partition that is ours, or was and still has records on their way.

    Attributes:
        stream: The stored position it was placed at; None while it is not placed.
        expected: The offset that continues what was delivered.
        launched: The offset behind the last record that left for the database.
        landed: The offset behind the last record whose fate is known.
        owned: Whether it is ours now.
        stuck: Whether what comes next is not there: placed anew once all that was delivered has landed.
    """

    stream: StreamPosition | None = None
    expected: int = 0
    launched: int = 0
    landed: int = 0
    owned: bool = True
    stuck: bool = False

    @property
    def in_flight(self) -> bool:
        """Whether records are on their way to the database."""
        return self.launched != self.landed


class Source:
    """The records of the partitions that this worker owns, each from its stored offset on.

    Args:
        subscription: The member of the consumer group.
        positions: The stored offsets.
        forget: Called with a partition whose buffered records have to be dropped.
        clock: Seconds of a monotonic clock.
    """

    def __init__(
        self,
        subscription: Subscription,
        positions: PartitionStore,
        forget: Callable[[TopicPartition], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._subscription = subscription
        self._positions = positions
        self._forget = forget
        self._clock = clock
        self._checked_at = clock()
        self._held: dict[TopicPartition, _Held] = {}
        self._paused = False
        self._is_missing = False
        self._gaps = 0
        self._gap_records = 0

    @property
    def topic(self) -> str:
        """The name of the topic."""
        return self._subscription.topic

    def poll(self, timeout_seconds: float) -> list[Delivery]:
        """New records of placed partitions, in order of offset.

        Raises:
            Unavailable: If the database or the brokers do not answer; try again later.
            StreamError: If the stored offset is one that the topic never had, or has no more.
        """
        self._note_changes()
        self._free_stuck()
        self._check_quiet()
        self._place_waiting()
        try:
            delivered = self._subscription.poll(timeout_seconds)
        except OutOfRange as err:
            self._close_gaps(err)
            return []
        # A rebalance during the poll may have made what it returned somebody else's.
        self._note_changes()
        return [delivery for item in delivered.items() if (delivery := self._accept(*item)) is not None]

    def launch(self, batch: Batch[Item]) -> None:
        """Take note that a batch is on its way to the database."""
        for partition, part in batch.slices.items():
            self._held[partition].launched = part.next

    def settle(self, stored: Mapping[TopicPartition, int], lost: Mapping[TopicPartition, int]) -> None:
        """Take note of how a batch ended.

        Args:
            stored: The offset behind the stored records, by partition.
            lost: The same for partitions that another worker moved meanwhile; they are placed anew.
        """
        for partition, offset in {**stored, **lost}.items():
            self._land(partition, offset)
        for partition in lost:
            log.warning("compare_and_set_lost", topic=partition.topic, partition=partition.partition)
            self._displace(partition)
        self._subscription.commit(
            {partition: offset for partition, offset in stored.items() if self._is_placed(partition)}
        )

    def passed_over(self) -> list[tuple[TopicPartition, int, int, int]]:
        """Where Kafka went past offsets without delivering them (transaction markers, compaction).

        Returns:
            (partition, its stored id, the expected offset, the offset to go on with); ask only when all that
            was delivered is in batches, or what lies before a position would be taken for passed over.
        """
        found = []
        for partition, held in self._held.items():
            if held.stream is None or held.in_flight:
                continue
            position = self._subscription.position(partition)
            if position is not None and position > held.expected:
                found.append((partition, held.stream.partition_id, held.expected, position))
                held.expected = position
        return found

    def is_reachable(self) -> bool:
        """Whether a broker answered lately."""
        return self._subscription.is_reachable()

    def measure(self, measures: Measures) -> None:
        """Say what is owned, and how far each placed partition is from its end."""
        measures.gaps, measures.gap_records = self._gaps, self._gap_records
        measures.is_member = self._subscription.is_member()
        measures.partitions = sum(held.owned for held in self._held.values())
        ends = {partition: self._subscription.end_offset(partition) for partition in self._placed()}
        measures.lag_records = {
            partition: max(0, end - self._held[partition].landed)
            for partition, end in ends.items()
            if end is not None
        }

    def continue_at(self, partition: TopicPartition, expected: int) -> None:
        """Take note that records before this offset are in a batch."""
        self._held[partition].expected = expected

    def pause(self) -> None:
        """Stop deliveries, but stay in the group."""
        if not self._paused:
            self._paused = True
            self._subscription.pause(self._placed())

    def resume(self) -> None:
        """Let deliveries go on."""
        if self._paused:
            self._paused = False
            self._subscription.resume(part for part in self._placed() if not self._held[part].stuck)

    def displace_all(self) -> None:
        """Doubt every position: after an error, each is read from the database again."""
        for partition in list(self._held):
            self._displace(partition)

    def backlog(self) -> Backlog:
        """What nobody has stored of the whole topic, asked of the brokers first and the database then.

        Raises:
            Unavailable: If one of them does not answer.
        """
        ends = self._subscription.end_offsets()
        topic_id = self._subscription.topic_id()
        stored = self._positions.next_offsets(self._subscription.cluster_id, topic_id) if topic_id else {}
        owned = frozenset(partition.partition for partition, held in self._held.items() if held.owned)
        return Backlog(self._subscription.topic, ends, stored, owned)

    @property
    def is_settled(self) -> bool:
        """Whether every assigned partition is placed and nothing is on its way."""
        waiting = any(held.owned and held.stream is None for held in self._held.values())
        return not waiting and not self.has_in_flight

    @property
    def has_in_flight(self) -> bool:
        """Whether records of any partition are on their way to the database."""
        return any(held.in_flight for held in self._held.values())

    def _placed(self) -> list[TopicPartition]:
        return [partition for partition in self._held if self._is_placed(partition)]

    def _is_placed(self, partition: TopicPartition) -> bool:
        held = self._held.get(partition)
        return held is not None and held.stream is not None

    def _note_changes(self) -> None:
        for change in self._subscription.changes():
            for partition in change.partitions:
                self._displace(partition)
                self._held.setdefault(partition, _Held()).owned = change.assigned
                self._drop_if_gone(partition)
            log.info(
                "partitions_assigned" if change.assigned else "partitions_revoked",
                topic=self._subscription.topic,
                partitions=sorted(partition.partition for partition in change.partitions),
            )

    def _displace(self, partition: TopicPartition) -> None:
        held = self._held.get(partition)
        if held is not None and held.stream is not None:
            held.stream = None
            held.stuck = False
            self._subscription.pause([partition])
            self._forget(partition)

    def _land(self, partition: TopicPartition, offset: int) -> None:
        self._held[partition].landed = offset
        self._drop_if_gone(partition)

    def _drop_if_gone(self, partition: TopicPartition) -> None:
        held = self._held[partition]
        if not held.owned and not held.in_flight:
            del self._held[partition]

    def _check_quiet(self) -> None:
        """Doubt quiet partitions whose stored offset has moved; in others the next compare-and-set finds out.

        Behind a pooler another server may take the database's place, without its last commits, and no
        connection is lost: what those commits held would be missing until new records come.
        """
        quiet = {
            partition: held for partition, held in self._held.items() if held.stream and not held.in_flight
        }
        now, topic_id = self._clock(), self._subscription.topic_id()
        if not quiet or topic_id is None or now - self._checked_at < _CHECK_SECONDS:
            return
        self._checked_at = now
        stored = self._positions.next_offsets(self._subscription.cluster_id, topic_id)
        for partition, held in quiet.items():
            found = stored.get(partition.partition)
            if found != held.landed:
                log.warning(
                    "stored_offset_moved",
                    topic=partition.topic,
                    partition=partition.partition,
                    from_offset=held.landed,
                    to_offset=found,
                )
                self._displace(partition)

    def _place_waiting(self) -> None:
        for partition, held in self._held.items():
            # While older records are on their way, the stored offset is about to move.
            if held.owned and held.stream is None and not held.in_flight:
                self._place(partition, held)

    def _place(self, partition: TopicPartition, held: _Held) -> None:
        topic_id = self._subscription.topic_id()
        if topic_id is None:  # it is gone, or its metadata is on the way
            if not self._is_missing:
                log.warning("topic_missing", topic=partition.topic, detail="Waiting until it is there.")
            self._is_missing = True
            return
        self._is_missing = False
        stream = self._find_or_register(partition, topic_id)
        if not self._subscription.place(partition, stream.next_offset):
            return
        held.stream = stream
        held.expected = held.launched = held.landed = stream.next_offset
        if self._paused:
            self._subscription.pause([partition])
        self._subscription.commit({partition: stream.next_offset})
        log.info(
            "partition_placed",
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
        # Nobody has seen any of it: it is read from its beginning, whatever the setting.
        start, _ = self._subscription.bounds(partition)
        return self._positions.register(cluster_id, topic, topic_id, partition.partition, start)

    def _accept(self, partition: TopicPartition, records: Sequence[Record]) -> Delivery | None:
        held = self._held.get(partition)
        if held is None or held.stream is None:
            return None
        if self._subscription.topic_id() != held.stream.topic_id:
            self._displace(partition)
            return None
        if records[0].offset < held.expected:
            # Kafka answered an older request; what comes before the expected offset is stored or on its way.
            records = [record for record in records if record.offset >= held.expected]
        if not records:
            return None
        return Delivery(partition, held.stream.partition_id, held.expected, records)

    def _free_stuck(self) -> None:
        for partition, held in self._held.items():
            if held.stuck and held.landed == held.expected:
                self._displace(partition)

    def _close_gaps(self, missing: OutOfRange) -> None:
        self._subscription.refresh()  # a topic made anew has neither the old offsets nor the old log
        topic_id = self._subscription.topic_id()
        for partition in missing.partitions:
            held = self._held.get(partition)
            if held is None or held.stream is None:
                continue
            stream = held.stream
            if topic_id != stream.topic_id:
                self._displace(partition)
            elif missing.lost_delivered:
                raise StreamError(
                    f"The brokers lost records of {partition.topic}[{partition.partition}] that they had "
                    "delivered (an unclean leader election?): start the worker again to go on at the stored "
                    "offset, and publish anew what took the lost records' offsets."
                )
            elif held.expected != stream.next_offset:
                # Records before the gap are in hand: they are stored first, and the gap is found again.
                held.stuck = True
                self._subscription.pause([partition])
            else:
                self._close_gap(partition, stream)
                self._displace(partition)

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


def subscribe_patiently(
    settings: KafkaSettings,
    options: ConsumerSettings,
    stopping: threading.Event,
    measures: Measures | None = None,
    topic: str | None = None,
) -> Subscription:
    """A member of the group that reads the reviews topic, or another one, which need not be there.

    Args:
        settings: How to reach the brokers, and the group.
        options: How patiently to wait, and how long a message may be.
        stopping: Ends the waiting.
        measures: Where failed attempts are counted.
        topic: Another topic than that of the reviews.

    Raises:
        Unavailable: If ``stopping`` was set while no broker answered.
        WrongUse: If no broker is configured.
    """
    topic = topic or settings.reviews_topic
    retry = Retry(
        "kafka_unavailable",
        "kafka_back",
        longest_seconds=options.retry_max_seconds,
        wait=stopping.wait,
        note=(measures or Measures()).noting("kafka", by="subscription"),
        topic=topic,
    )
    return retry(lambda: _subscribe(settings, topic, options.max_message_bytes))


def _subscribe(settings: KafkaSettings, topic: str, max_message_bytes: int) -> Subscription:
    subscription = Subscription(settings, topic, max_message_bytes)
    try:
        if topic == settings.reviews_topic and not subscription.topic_exists():
            log.warning("topic_missing", topic=topic, detail="Waiting until it is made.")
    except BaseException:
        subscription.close()
        raise
    return subscription
