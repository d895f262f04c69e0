"""The records of the partitions that this worker owns, between Kafka and the stored offsets.

Invariant I5: after every assignment, error or lost compare-and-set, the fetch position equals the stored
offset. A partition is therefore *positioned* only by reading the stored offset and seeking there. A
rebalance, a lost compare-and-set, an error or a topic made anew invalidates the position: nothing is
delivered until the partition is positioned again.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Generic

import structlog

from broker.subscription import OutOfRange, Record, Subscription, TopicPartition
from consumer.batch import AcceptedT, Batch, Batcher, Outcome, Tasks
from consumer.liveness import Backlog
from consumer.measures import Measures
from consumer.positioning import Positioning
from consumer.settings import ConsumerSettings
from reviews.errors import StreamError, Unavailable
from reviews.stream_records import Origin
from storage.stream.partitions import PartitionStore, StreamPosition

log = structlog.get_logger()

_CHECK_SECONDS = 30.0
_SKIP_SECONDS = 1.0

Parse = Callable[[Iterable[Record], datetime, ConsumerSettings, Origin], Sequence[Outcome[AcceptedT]]]
"""One outcome per record, in order; the records, when they were received (UTC), settings, their partition."""


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
        held_until: It is not positioned before this moment: its records need a service that is unavailable.
    """

    stored: StreamPosition | None = None
    expected: int = 0
    submitted: int = 0
    acknowledged: int = 0
    is_owned: bool = True
    is_at_gap: bool = False
    held_until: float = 0.0

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
        tasks_of: What the reviews of a topic are scored for; None: every task of the worker. A batch has
            reviews of the same tasks only.
    """

    def __init__(
        self,
        settings: ConsumerSettings,
        subscription: Subscription,
        positions: PartitionStore,
        parse: Parse[AcceptedT],
        *,
        clock: Callable[[], float] = time.monotonic,
        tasks_of: Callable[[str], Tasks] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._subscription = subscription
        self._positioning = Positioning(subscription, positions)
        self._parse = parse
        self._clock = clock
        self._tasks_of = cache(tasks_of)
        self._batchers: dict[Tasks, Batcher[AcceptedT]] = {}
        self._states: dict[TopicPartition, PartitionState] = {}
        self._checked_at = clock()
        self._skipped_at = clock()
        self._is_paused = False
        self._has_unpositioned = False

    @property
    def topics(self) -> str:
        """The names and patterns of what is read, for the log."""
        return str(self._subscription.choice)

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
            try:
                count += self._accept(partition, records, received_at, now)
            except Unavailable as err:
                self._hold(partition, err)
        # Beside steady traffic as well, but more rarely: no poll is empty then, and there are many of them.
        if not count or now - self._skipped_at >= _SKIP_SECONDS:
            self._skipped_at = now
            self._skip_undelivered(now)
        return count

    def take(self) -> Batch[AcceptedT] | None:
        """The next batch that is ready, from now on in flight; None: not yet."""
        now = self._clock()
        return self._submitted(batcher.take(now) for batcher in self._batchers.values())

    def take_rest(self) -> Batch[AcceptedT] | None:
        """The next batch, ready or not; None: nothing is left."""
        return self._submitted(batcher.take_rest() for batcher in self._batchers.values())

    def seconds_left(self) -> float:
        """How long until :meth:`take` has a batch, if no more records come."""
        now = self._clock()
        left = [batcher.seconds_left(now) for batcher in self._batchers.values()]
        return min(left, default=self._settings.max_wait_seconds)

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
        measures.gaps, measures.gap_records = self._positioning.lost
        measures.is_member = self._subscription.is_member()
        measures.filtered_records = sum(batcher.filtered_out for batcher in self._batchers.values())
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
        """What no worker has stored of all topics.

        Raises:
            Unavailable: If the brokers or the database do not answer.
        """
        owned = frozenset(partition for partition, state in self._states.items() if state.is_owned)
        return self._positioning.backlog(owned)

    @property
    def is_settled(self) -> bool:
        """Whether every assigned partition is positioned and nothing is on its way."""
        waiting = any(state.is_owned and state.stored is None for state in self._states.values())
        return not waiting and not self.has_in_flight

    @property
    def has_in_flight(self) -> bool:
        """Whether records of any partition are on their way to the database."""
        return any(state.is_in_flight for state in self._states.values())

    def _batcher(self, partition: TopicPartition) -> Batcher[AcceptedT]:
        tasks = self._tasks_of(partition.topic)
        found = self._batchers.get(tasks)
        if found is None:
            found = self._batchers[tasks] = Batcher[AcceptedT](self._settings, tasks)
        return found

    def _accept(
        self, partition: TopicPartition, records: Sequence[Record], received_at: datetime, now: float
    ) -> int:
        state = self._states.get(partition)
        if state is None or state.stored is None:
            return 0
        stored = state.stored
        if self._subscription.topic_id(partition.topic) != stored.topic_id:
            self._invalidate(partition)
            return 0
        if records[0].offset < state.expected:
            # Kafka answered an older request; what comes before the expected offset is stored or on its way.
            records = [record for record in records if record.offset >= state.expected]
        origin = Origin(partition.topic, stored.topic_id, partition.partition)
        outcomes = self._parse(records, received_at, self._settings, origin)
        state.expected = self._batcher(partition).add(
            partition, stored.partition_id, state.expected, outcomes, now
        )
        return len(records)

    def _hold(self, partition: TopicPartition, err: Unavailable) -> None:
        """Read a partition again later, from its stored offset; the others go on.

        Raises:
            Unavailable: The same, if its client does not space the attempts itself.
        """
        if err.retry_seconds is None:
            raise err
        self._states[partition].held_until = self._clock() + err.retry_seconds
        self._invalidate(partition)

    def _skip_undelivered(self, now: float) -> None:
        """Go on where Kafka went past offsets without delivering them (transaction markers, compaction).

        All that was delivered is in batches by now, or what lies before a position would be skipped.
        """
        for partition, state in self._states.items():
            if state.stored is None or state.is_in_flight:
                continue
            position = self._subscription.position(partition)
            if position is not None and position > state.expected:
                batcher = self._batcher(partition)
                batcher.skip(partition, state.stored.partition_id, state.expected, position, now)
                state.expected = position

    def _submitted(self, ready: Iterable[Batch[AcceptedT] | None]) -> Batch[AcceptedT] | None:
        """The first batch, which counts as on its way from now on, whatever happens to its partitions."""
        batch = next((one for one in ready if one is not None and one.ranges), None)
        if batch is not None:
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
            by_topic: dict[str, list[int]] = {}
            for partition in sorted(change.partitions):
                self._invalidate(partition)
                self._states.setdefault(partition, PartitionState()).is_owned = change.assigned
                self._drop_if_gone(partition)
                by_topic.setdefault(partition.topic, []).append(partition.partition)
            self._has_unpositioned = True
            for topic, numbers in by_topic.items():
                event = "partitions_assigned" if change.assigned else "partitions_revoked"
                log.info(event, topic=topic, partitions=numbers)

    def _invalidate(self, partition: TopicPartition) -> None:
        state = self._states.get(partition)
        if state is not None and state.stored is not None:
            state.stored = None
            state.is_at_gap = False
            self._has_unpositioned = True
            self._subscription.pause([partition])
            for batcher in self._batchers.values():
                batcher.drop(partition)

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
        now = self._clock()
        if now - self._checked_at < _CHECK_SECONDS:
            return
        quiet = {
            partition: state
            for partition, state in self._states.items()
            if state.stored and not state.is_in_flight
        }
        ids = {partition.topic: state.stored.topic_id for partition, state in quiet.items() if state.stored}
        if not quiet:
            return
        self._checked_at = now
        stored = self._positioning.next_offsets(ids)
        for partition, state in quiet.items():
            found = stored.get(partition)
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
        if not self._has_unpositioned:
            return
        waiting = {
            partition: state
            for partition, state in self._states.items()
            if state.is_owned and state.stored is None
        }
        # While older records are on their way, the stored offset is about to move.
        now = self._clock()
        ready = [
            partition
            for partition, state in waiting.items()
            if not state.is_in_flight and state.held_until <= now
        ]
        offsets: dict[TopicPartition, int] = {}
        for partition, stream in self._positioning.locate(ready).items() if ready else ():
            if self._subscription.seek(partition, stream.next_offset):
                state = waiting.pop(partition)
                state.stored = stream
                state.expected = state.submitted = state.acknowledged = stream.next_offset
                offsets[partition] = stream.next_offset
        self._has_unpositioned = bool(waiting)
        if offsets:
            self._note_positioned(offsets)

    def _note_positioned(self, offsets: Mapping[TopicPartition, int]) -> None:
        if self._is_paused:
            self._subscription.pause(offsets)
        self._subscription.commit(offsets)
        for topic in sorted({partition.topic for partition in offsets}):
            found = {name.partition: offset for name, offset in offsets.items() if name.topic == topic}
            log.info("partitions_positioned", topic=topic, offsets=found)

    def _free_gaps(self) -> None:
        for partition, state in self._states.items():
            if state.is_at_gap and state.acknowledged == state.expected:
                self._invalidate(partition)

    def _close_gaps(self, missing: OutOfRange) -> None:
        self._subscription.refresh()  # a topic made anew has neither the old offsets nor the old log
        for partition in missing.partitions:
            state = self._states.get(partition)
            if state is None or state.stored is None:
                continue
            stream = state.stored
            if self._subscription.topic_id(partition.topic) != stream.topic_id:
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
                self._positioning.close_gap(partition, stream)
                self._invalidate(partition)
