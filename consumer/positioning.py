"""Where reading goes on: stored offsets, starts of new partitions, and gaps that retention left."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import structlog

from broker.subscription import StartOffset, Subscription, TopicPartition
from consumer.liveness import Backlog
from reviews.errors import StreamError
from storage.stream.partitions import PartitionStore, StreamPosition

log = structlog.get_logger()


class GapTotals(NamedTuple):
    """Offsets that were lost to retention, as far as this worker found them: ranges, and offsets in them."""

    gaps: int = 0
    records: int = 0


class Positioning:
    """Finds and registers stored positions, with what the brokers say of the partitions.

    A topic that nobody has read begins where the setting ``kafka.start`` says. One that was not there yet
    when this worker joined, a partition that is added, and a topic made anew are read from their beginning.

    Args:
        subscription: The member of the consumer group.
        store: The stored positions.

    Raises:
        Unavailable: From every method that asks, if the database or the brokers do not answer.
    """

    def __init__(self, subscription: Subscription, store: PartitionStore) -> None:
        self._subscription = subscription
        self._store = store
        self._missing: set[str] = set()
        self._at_first: frozenset[str] | None = None
        self.lost = GapTotals()

    def locate(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, StreamPosition]:
        """The stored position of each partition; those of a topic that is missing now are left out."""
        if self._at_first is None:
            self._at_first = frozenset(self._subscription.topics())
        by_topic: dict[str, list[int]] = {}
        for partition in partitions:
            by_topic.setdefault(partition.topic, []).append(partition.partition)
        found: dict[TopicPartition, StreamPosition] = {}
        for topic, numbers in by_topic.items():
            topic_id = self._topic_id(topic)
            if topic_id is not None:
                known = self._find_or_register(topic, topic_id, numbers)
                found.update({TopicPartition(topic, number): known[number] for number in numbers})
        return found

    def next_offsets(self, topics: Mapping[str, str]) -> dict[TopicPartition, int]:
        """The stored offset of every partition that was ever read of these topics, whose ids are given."""
        cluster_id = self._subscription.cluster_id
        return {
            TopicPartition(topic, number): offset
            for topic, topic_id in topics.items()
            for number, offset in self._store.next_offsets(cluster_id, topic_id).items()
        }

    def backlog(self, owned: frozenset[TopicPartition]) -> Backlog:
        """What no worker has stored of all topics, asked of the brokers first and the database then.

        Args:
            owned: The partitions of this worker.
        """
        missing = self._subscription.missing_topics()
        ends = self._subscription.end_offsets()
        ids = {topic: self._subscription.topic_id(topic) for topic in {end.topic for end in ends}}
        stored = self.next_offsets({topic: topic_id for topic, topic_id in ids.items() if topic_id})
        return Backlog(tuple(missing), ends, stored, owned)

    def close_gap(self, partition: TopicPartition, stream: StreamPosition) -> None:
        """Record the offsets between the stored one and the first that the brokers hold, and go on behind.

        Raises:
            StreamError: If the stored offset lies beyond the end.
        """
        first, end = self._subscription.bounds(partition)
        if stream.next_offset > end:
            raise StreamError(
                f"The stored offset {stream.next_offset} of {partition.topic}[{partition.partition}] is "
                f"beyond the topic's end {end}: the brokers lost data, or the database is another cluster's. "
                "Name the cluster that belongs to the database, or make the topic anew, as a new stream."
            )
        if stream.next_offset < first and self._store.record_gap(
            stream.partition_id, stream.next_offset, first
        ):
            self.lost = GapTotals(self.lost.gaps + 1, self.lost.records + first - stream.next_offset)
            log.error(
                "records_lost_to_retention",
                topic=partition.topic,
                partition=partition.partition,
                first_offset=stream.next_offset,
                next_offset=first,
                detail="Kafka deleted records before they were read; the gap is recorded in stream_gap.",
            )

    def _topic_id(self, topic: str) -> str | None:
        """The id of a topic; None where it is gone, or its metadata is on the way."""
        topic_id = self._subscription.topic_id(topic)
        if topic_id is not None:
            self._missing.discard(topic)
        elif topic not in self._missing:
            self._missing.add(topic)
            log.warning("topic_missing", topic=topic, detail="Waiting until it is there.")
        return topic_id

    def _find_or_register(
        self, topic: str, topic_id: str, numbers: Iterable[int]
    ) -> dict[int, StreamPosition]:
        cluster_id = self._subscription.cluster_id
        known = self._store.find(cluster_id, topic_id)
        new = [number for number in numbers if number not in known]
        if not new:
            return known
        if self._store.other_streams(cluster_id, topic, topic_id):
            log.warning(
                "topic_made_anew",
                topic=topic,
                detail="The topic was deleted and made again; it is read as a new stream, old rows stay.",
            )
        elif known:
            log.info("partitions_added", topic=topic, partitions=new)
        elif topic in (self._at_first or ()):
            # All of its partitions at once: what is not among them later on was added since.
            self._register_by_setting(topic, topic_id)
            known = self._store.find(cluster_id, topic_id)
            new = [number for number in new if number not in known]
        else:
            log.info("topic_added", topic=topic)
        if new:
            # No worker has seen any of it: it is read from its beginning, independent of the setting.
            starts = {number: self._subscription.bounds(TopicPartition(topic, number))[0] for number in new}
            self._store.register_all(cluster_id, topic, topic_id, starts, dict.fromkeys(new, "added"))
            known = self._store.find(cluster_id, topic_id)
        return known

    def _register_by_setting(self, topic: str, topic_id: str) -> None:
        starts = self._subscription.start_offsets(topic)
        self._store.register_all(
            self._subscription.cluster_id,
            topic,
            topic_id,
            {number: start.offset for number, start in starts.items()},
            {number: start.reason for number, start in starts.items()},
        )
        self._say_taken_over(topic, starts)

    def _say_taken_over(self, topic: str, starts: Mapping[int, StartOffset]) -> None:
        if self._subscription.start != "group":
            return
        taken = {number: start.offset for number, start in starts.items() if start.reason == "group"}
        log.warning(
            "group_offsets_taken_over",
            topic=topic,
            group=self._subscription.group_id,
            offsets=taken,
            earliest=sorted(set(starts) - set(taken)),
            detail="Partitions begin once at the offsets that the consumer group had committed, those "
            "without one at their beginning; stream_partition keeps it. Then the stored offsets count.",
        )
