"""Several topics in one source, their backlog, and partitions that wait for a service."""

import pytest

from broker.subscription import TopicPartition
from consumer.parsing import parse_reviews
from consumer.settings import ConsumerSettings
from consumer.source import Source
from reviews.errors import Unavailable
from tests.unit.consumer.scripted_group import P0, P1, Delivered, Group, source_of, taken

SHOP = TopicPartition("shop", 0)


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
    assert taken(source) == {SHOP: (0, 1, [0])}
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
    source = source_of(group, positions, tasks_of=tasks.get)
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
    assert taken(source) == {P1: (0, 1, [0])}
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
    assert taken(source) == {P0: (0, 2, [0, 1])}


def test_a_service_that_is_asked_without_pauses_stops_the_whole_worker(group, positions):
    parse, _ = _away_for(0, Unavailable("away", "database"))
    source = Source(ConsumerSettings(), group, positions, parse)
    group.assign(P0)
    source.poll(0)
    group.deliver(P0, 0)
    with pytest.raises(Unavailable):
        source.poll(0)
