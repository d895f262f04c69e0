"""The state of each partition: positioned at the stored offset, and again after every doubt (I3, I5)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from broker.subscription import AssignmentChange, OutOfRange, StartOffset, TopicPartition
from broker.topics import TopicChoice
from consumer.parsing import parse_reviews
from consumer.settings import ConsumerSettings
from consumer.source import Source
from reviews.errors import StreamError, Unavailable
from storage.stream.partitions import StreamPosition

P0, P1 = TopicPartition("reviews", 0), TopicPartition("reviews", 1)


@dataclass
class Delivered:
    offset: int
    timestamp: int = 0
    key: bytes | None = None
    value: bytes | None = b"{}"
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass
class Group:
    """A consumer group of one, as the broker would play it."""

    choice: TopicChoice = field(default_factory=lambda: TopicChoice(("reviews",)))
    id: str = "topic-1"
    group_id: str = "group"
    known: list[str] = field(default_factory=lambda: ["reviews"])
    notes: list[AssignmentChange] = field(default_factory=list)
    places: dict[TopicPartition, int] = field(default_factory=dict)
    paused: set[TopicPartition] = field(default_factory=set)
    committed: dict[TopicPartition, int] = field(default_factory=dict)
    answers: list[object] = field(default_factory=list)
    log: dict[TopicPartition, tuple[int, int]] = field(default_factory=dict)
    cluster_id: str = "cluster"
    member: bool = True
    start: str = "earliest"
    partitions: int = 1

    def is_member(self) -> bool:
        return self.member

    def assign(self, *partitions: TopicPartition) -> None:
        self.notes.append(AssignmentChange(assigned=True, partitions=frozenset(partitions)))

    def revoke(self, *partitions: TopicPartition) -> None:
        self.notes.append(AssignmentChange(assigned=False, partitions=frozenset(partitions)))

    def deliver(self, partition: TopicPartition, *offsets: int) -> None:
        self.answers.append({partition: [Delivered(offset) for offset in offsets]})

    def topic_id(self, topic: str) -> str | None:
        return self.id if self.id is None or topic == "reviews" else f"{topic}-id"

    def topics(self) -> list[str]:
        return list(self.known)

    def missing_topics(self) -> list[str]:
        return []

    def refresh(self) -> None:
        pass

    def changes(self) -> list[AssignmentChange]:
        found, self.notes = self.notes, []
        return found

    def poll(self, timeout_seconds: float) -> Mapping[TopicPartition, Sequence[Delivered]]:
        answer = self.answers.pop(0) if self.answers else {}
        if callable(answer):
            answer = answer()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def seek(self, partition: TopicPartition, offset: int) -> bool:
        self.places[partition] = offset
        self.paused.discard(partition)
        return True

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        self.paused |= set(partitions)

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        self.paused -= set(partitions)

    def position(self, partition: TopicPartition) -> int | None:
        return self.places.get(partition)

    def bounds(self, partition: TopicPartition) -> tuple[int, int]:
        return self.log.get(partition, (0, 1000))

    def start_offsets(self, topic: str) -> dict[int, StartOffset]:
        return {
            partition.partition: StartOffset(self.bounds(partition)[self.start == "latest"], self.start)
            for partition in self._all()
            if partition.topic == topic
        }

    def end_offsets(self) -> dict[TopicPartition, int]:
        return {partition: self.bounds(partition)[1] for partition in self._all()}

    def _all(self) -> list[TopicPartition]:
        return [TopicPartition(topic, number) for topic in self.known for number in range(self.partitions)]

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        self.committed.update(offsets)


@dataclass
class Positions:
    """The stored offsets."""

    rows: list[StreamPosition] = field(default_factory=list)
    gaps: list[tuple[int, int, int]] = field(default_factory=list)

    def find(self, cluster_id: str, topic_id: str) -> dict[int, StreamPosition]:
        return {row.partition: row for row in self.rows if row.topic_id == topic_id}

    def next_offsets(self, cluster_id: str, topic_id: str) -> dict[int, int]:
        return {row.partition: row.next_offset for row in self.rows if row.topic_id == topic_id}

    def register(
        self, cluster_id: str, topic: str, topic_id: str, partition: int, start_offset: int
    ) -> StreamPosition:
        made = StreamPosition(
            len(self.rows) + 1, cluster_id, topic, topic_id, partition, start_offset, start_offset
        )
        self.rows.append(made)
        return made

    def register_all(
        self,
        cluster_id: str,
        topic: str,
        topic_id: str,
        start_offsets: Mapping[int, int],
        reasons: Mapping[int, str],
    ) -> None:
        for partition, start_offset in start_offsets.items():
            if partition not in self.find(cluster_id, topic_id):
                made = self.register(cluster_id, topic, topic_id, partition, start_offset)
                self.rows[-1] = replace(made, start_reason=reasons[partition])

    def other_streams(self, cluster_id: str, topic: str, topic_id: str) -> list[StreamPosition]:
        return [row for row in self.rows if row.topic == topic and row.topic_id != topic_id]

    def record_gap(self, partition_id: int, expected: int, available: int) -> bool:
        self.gaps.append((partition_id, expected, available))
        self.move(partition_id, available)
        return True

    def move(self, partition_id: int, offset: int) -> None:
        self.rows = [
            replace(row, next_offset=offset) if row.partition_id == partition_id else row for row in self.rows
        ]


@pytest.fixture
def group() -> Group:
    return Group()


@pytest.fixture
def positions() -> Positions:
    return Positions()


def _source(group: Group, positions: Positions, **options) -> Source:
    return Source(ConsumerSettings(), group, positions, parse_reviews, **options)


@pytest.fixture
def source(group, positions) -> Source:
    return _source(group, positions)


def _read(source: Source, group: Group, *offsets: int) -> None:
    group.deliver(P0, *offsets)
    assert source.poll(0) == len(offsets)


def _taken(source: Source) -> dict[TopicPartition, tuple[int, int, list[int]]]:
    """What waits, from now on submitted: from where to where, and the records, by partition."""
    batch = source.take_rest()
    return (
        {}
        if batch is None
        else {
            partition: (part.expected, part.next, part.offsets()) for partition, part in batch.ranges.items()
        }
    )


def _submit(source: Source, group: Group) -> None:
    _read(source, group, 0, 1)
    assert _taken(source) == {P0: (0, 2, [0, 1])}


def test_an_assigned_partition_is_positioned_at_its_stored_offset(source, group, positions):
    positions.register("cluster", "reviews", "topic-1", 0, 0)
    positions.move(1, 42)
    group.assign(P0)
    source.poll(0)
    assert group.places == {P0: 42}
    assert group.committed == {P0: 42}


def test_a_partition_that_was_never_read_begins_where_the_setting_says(source, group, positions):
    group.log[P0] = (7, 90)
    group.assign(P0)
    source.poll(0)
    assert group.places == {P0: 7}
    assert positions.rows[0].start_offset == 7


def test_a_partition_that_was_added_to_a_topic_in_reading_begins_at_its_beginning(source, group, positions):
    group.start = "latest"
    group.log = {P0: (7, 90), P1: (0, 3)}
    group.assign(P0)
    source.poll(0)
    group.partitions = 2
    group.assign(P1)
    source.poll(0)
    assert group.places == {P0: 90, P1: 0}
    assert [row.start_offset for row in positions.rows] == [90, 0]


def test_partitions_that_are_there_from_the_start_begin_at_the_same_time_whoever_reads_them(group, positions):
    group.start, group.partitions = "latest", 2
    group.log = {P0: (7, 90), P1: (0, 40)}
    group.assign(P0)
    _source(group, positions).poll(0)
    group.log = {P0: (7, 95), P1: (0, 60)}
    group.assign(P1)
    _source(group, positions).poll(0)
    assert group.places == {P0: 90, P1: 40}


def test_a_partition_that_is_seen_before_its_topics_metadata_is_read_from_its_beginning(source, group):
    group.start = "latest"
    group.log = {P0: (7, 90), P1: (0, 3)}
    group.assign(P1)
    source.poll(0)
    assert group.places == {P1: 0}


def test_records_of_a_partition_revoked_during_the_poll_are_dropped(source, group):
    group.assign(P0)
    source.poll(0)

    def revoked_meanwhile():
        group.revoke(P0)
        return {P0: [Delivered(0)]}

    group.answers.append(revoked_meanwhile)
    assert source.poll(0) == 0


def test_a_partition_that_comes_back_is_positioned_anew_and_its_buffer_dropped(source, group, positions):
    group.assign(P0)
    source.poll(0)
    _read(source, group, 0, 1)
    positions.move(1, 30)
    group.revoke(P0)
    group.assign(P0)
    source.poll(0)
    assert group.places[P0] == 30
    assert _taken(source) == {}


def test_a_lost_compare_and_set_positions_the_partition_anew(source, group, positions):
    group.assign(P0)
    source.poll(0)
    _submit(source, group)
    positions.move(1, 5)
    source.acknowledge({}, {P0: 2})
    source.poll(0)
    assert group.places[P0] == 5


def test_nothing_is_positioned_while_older_records_are_on_their_way(source, group, positions):
    group.assign(P0)
    source.poll(0)
    _submit(source, group)
    group.revoke(P0)
    group.assign(P0)
    positions.move(1, 1)
    group.places.clear()
    source.poll(0)
    assert group.places == {}
    source.acknowledge({P0: 2}, {})
    positions.move(1, 2)
    source.poll(0)
    assert group.places == {P0: 2}


def test_offsets_below_the_expected_one_are_not_delivered_again(source, group):
    group.log[P0] = (3, 90)
    group.assign(P0)
    group.deliver(P0, 1, 2, 3, 4)
    assert source.poll(0) == 2
    assert _taken(source) == {P0: (3, 5, [3, 4])}


def test_offsets_lost_to_retention_are_recorded_once_and_passed(source, group, positions):
    group.assign(P0)
    source.poll(0)
    group.log[P0] = (50, 90)
    group.answers.append(OutOfRange([P0]))
    source.poll(0)
    source.poll(0)
    assert positions.gaps == [(1, 0, 50)]
    assert group.places[P0] == 50


def test_what_is_in_hand_is_stored_before_the_gap_behind_it_is_recorded(source, group, positions):
    group.assign(P0)
    _read(source, group, 0, 1)
    group.log[P0] = (7, 100)
    group.answers.append(OutOfRange([P0]))
    source.poll(0)
    source.poll(0)
    assert positions.gaps == []
    assert _taken(source) == {P0: (0, 2, [0, 1])}
    positions.move(1, 2)
    source.acknowledge({P0: 2}, {})
    group.answers.append(OutOfRange([P0]))
    source.poll(0)
    assert positions.gaps == [(1, 2, 7)]


def test_a_log_that_was_cut_stops_the_worker_unless_the_topic_was_made_anew(source, group):
    group.assign(P0)
    source.poll(0)
    group.answers.append(OutOfRange([P0], lost_delivered=True))
    with pytest.raises(StreamError, match="lost records"):
        source.poll(0)
    group.id = "topic-2"
    group.answers.append(OutOfRange([P0], lost_delivered=True))
    source.poll(0)
    source.poll(0)
    assert group.places[P0] == 0


def test_a_stored_offset_beyond_the_end_stops_the_worker(source, group, positions):
    positions.register("cluster", "reviews", "topic-1", 0, 0)
    positions.move(1, 500)
    group.log[P0] = (0, 90)
    group.assign(P0)
    group.answers.append(OutOfRange([P0]))
    with pytest.raises(StreamError, match="beyond the topic's end 90"):
        source.poll(0)


def test_a_topic_made_anew_is_a_new_stream_read_from_its_beginning(source, group, positions):
    group.assign(P0)
    source.poll(0)
    positions.move(1, 40)
    group.id = "topic-2"
    group.deliver(P0, 40)
    assert source.poll(0) == 0
    source.poll(0)
    assert [(row.topic_id, row.next_offset) for row in positions.rows] == [("topic-1", 40), ("topic-2", 0)]
    assert group.places[P0] == 0


def test_what_kafka_never_delivers_is_skipped(source, group):
    group.assign(P0)
    source.poll(0)
    group.places[P0] = 3
    source.poll(0)
    assert _taken(source) == {P0: (0, 3, [])}
    source.acknowledge({P0: 3}, {})
    source.poll(0)
    assert _taken(source) == {}


def test_markers_at_the_end_of_a_quiet_partition_are_skipped_while_another_never_rests(group, positions):
    now = [0.0]
    source = _source(group, positions, clock=lambda: now[0])
    group.assign(P0, P1)
    source.poll(0)
    group.places[P1] = 8
    now[0] += 2
    _read(source, group, 0, 1)
    assert _taken(source)[P1] == (0, 8, []), "the quiet partition keeps a lag"


def test_a_partition_positioned_while_deliveries_are_paused_stays_paused(source, group):
    group.assign(P0)
    source.poll(0)
    source.pause()
    group.assign(P1)
    source.poll(0)
    assert {P0, P1} <= group.paused
    source.resume()
    assert group.paused == set()


def test_only_owned_partitions_are_committed_to_kafka(source, group):
    group.assign(P0)
    source.poll(0)
    _submit(source, group)
    group.revoke(P0)
    source.poll(0)
    group.committed.clear()
    source.acknowledge({P0: 2}, {})
    assert group.committed == {}
    assert not source.has_in_flight


def test_a_source_is_settled_when_every_partition_is_positioned_and_nothing_is_on_its_way(source, group):
    group.assign(P0)
    group.notes, notes = [], group.notes
    source.poll(0)
    assert source.is_settled
    group.notes, group.id = notes, None
    source.poll(0)
    assert not source.is_settled, "a partition waits for its place"
    group.id = "topic-1"
    source.poll(0)
    assert source.is_settled
    _submit(source, group)
    assert not source.is_settled, "records are on their way"
    source.acknowledge({P0: 2}, {})
    assert source.is_settled


def test_the_backlog_is_that_of_the_whole_topic_not_of_the_own_partitions(source, group, positions):
    group.partitions = 3
    group.log = {P0: (7, 90), P1: (0, 40), TopicPartition("reviews", 2): (0, 0)}
    group.assign(P0)
    source.poll(0)
    positions.move(1, 90)
    positions.rows = positions.rows[:2]
    backlog = source.backlog()
    assert backlog.owned == {P0}
    assert backlog.unread == {P1: 40, TopicPartition("reviews", 2): 1}, (
        "a partition that nobody began is not read, be it an empty one"
    )


@pytest.mark.parametrize("is_in_flight", [False, True])
def test_a_quiet_partition_whose_stored_offset_moves_is_positioned_anew_and_one_on_its_way_is_not(
    group, positions, is_in_flight: bool
):
    now = [0.0]
    source = _source(group, positions, clock=lambda: now[0])
    group.assign(P0)
    source.poll(0)
    _submit(source, group)
    positions.move(1, 2)
    if not is_in_flight:
        source.acknowledge({P0: 2}, {})
        now[0] += 100
        source.poll(0)
        assert group.places[P0] == 0, "it was positioned anew without a reason"
        positions.move(1, 1)  # a standby that lacks the last commit was promoted behind a pooler
    now[0] += 100
    source.poll(0)
    assert group.places[P0] == (0 if is_in_flight else 1)


SHOP = TopicPartition("shop", 0)


def _two_topics(group: Group) -> None:
    group.known.append("shop")
    group.log[SHOP] = (0, 10)


def test_each_topic_has_positions_of_its_own_and_one_that_is_made_anew_leaves_the_others(
    source, group, positions
):
    _two_topics(group)
    group.assign(P0, SHOP)
    source.poll(0)
    positions.move(2, 4)
    group.id = "topic-2"
    group.answers.append({P0: [Delivered(0)], SHOP: [Delivered(0)]})
    assert source.poll(0) == 1, "what comes of the topic made anew is not taken as the old one's"
    assert _taken(source) == {SHOP: (0, 1, [0])}
    source.poll(0)
    assert sorted((row.topic, row.topic_id) for row in positions.rows) == [
        ("reviews", "topic-1"),
        ("reviews", "topic-2"),
        ("shop", "shop-id"),
    ]


def test_a_topic_that_was_not_there_at_the_start_is_read_from_its_beginning(source, group, positions):
    group.start = "latest"
    group.log = {P0: (7, 90), SHOP: (3, 10)}
    group.assign(P0)
    source.poll(0)
    group.known.append("shop")
    group.assign(SHOP)
    source.poll(0)
    assert group.places == {P0: 90, SHOP: 3}
    assert [(row.topic, row.start_reason) for row in positions.rows] == [
        ("reviews", "latest"),
        ("shop", "added"),
    ]


def test_reviews_of_different_tasks_are_never_in_one_batch(group, positions):
    _two_topics(group)
    tasks = {"shop": frozenset({"tone"})}
    source = _source(group, positions, tasks_of=tasks.get)
    group.assign(P0, SHOP)
    source.poll(0)
    group.answers.append({P0: [Delivered(0)], SHOP: [Delivered(0), Delivered(1)]})
    source.poll(0)
    batches = [source.take_rest(), source.take_rest(), source.take_rest()]
    found = [(batch.tasks, sorted(batch.ranges)) for batch in batches if batch is not None]
    assert sorted(found, key=str) == sorted([(None, [P0]), (frozenset({"tone"}), [SHOP])], key=str)
    assert source.has_in_flight
    source.acknowledge({P0: 1, SHOP: 2}, {})
    assert source.is_settled


def test_the_backlog_is_that_of_all_topics(source, group, positions):
    _two_topics(group)
    group.log[P0] = (0, 5)
    group.assign(P0, SHOP)
    source.poll(0)
    backlog = source.backlog()
    assert backlog.unread == {P0: 5, SHOP: 10}
    assert backlog.owned == {P0, SHOP}


def _away_for(topic_partition: int, service: Unavailable):
    """A parser that a service is unavailable for, in one partition."""

    def parse(records, received_at, settings, origin):
        if origin.partition == topic_partition and not answers:
            raise service
        return parse_reviews(records, received_at, settings, origin)

    answers: list[bool] = []
    return parse, answers


def test_a_partition_whose_records_need_an_unavailable_service_waits_and_the_others_go_on(group, positions):
    now = [100.0]
    parse, answers = _away_for(0, Unavailable("away", "registry", retry_seconds=4.0))
    group.partitions = 2
    source = Source(ConsumerSettings(), group, positions, parse, clock=lambda: now[0])
    group.assign(P0, P1)
    source.poll(0)
    group.answers.append({P0: [Delivered(0), Delivered(1)], P1: [Delivered(0)]})
    assert source.poll(0) == 1
    assert _taken(source) == {P1: (0, 1, [0])}
    assert group.paused == {P0}
    assert not source.is_settled
    now[0] += 3.9
    source.poll(0)
    assert group.paused == {P0}
    now[0] += 0.2
    answers.append(True)
    source.poll(0)
    assert (group.paused, group.places[P0]) == (set(), 0)
    group.deliver(P0, 0, 1)
    assert source.poll(0) == 2
    assert _taken(source) == {P0: (0, 2, [0, 1])}


def test_a_service_that_is_asked_without_pauses_stops_the_whole_worker(group, positions):
    parse, _ = _away_for(0, Unavailable("away", "database"))
    source = Source(ConsumerSettings(), group, positions, parse)
    group.assign(P0)
    source.poll(0)
    group.deliver(P0, 0)
    with pytest.raises(Unavailable):
        source.poll(0)
