"""What the source makes of offsets that Kafka does not deliver, lost, or counts anew (I3)."""

import pytest

from broker.subscription import OutOfRange
from reviews.errors import StreamError
from tests.unit.consumer.scripted_group import P0, P1, read, source_of, taken


def test_offsets_below_the_expected_one_are_not_delivered_again(source, group):
    group.log[P0] = (3, 90)
    group.assign(P0)
    group.deliver(P0, 1, 2, 3, 4)
    assert source.poll(0) == 2
    assert taken(source) == {P0: (3, 5, [3, 4])}


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
    read(source, group, 0, 1)
    group.log[P0] = (7, 100)
    group.answers.append(OutOfRange([P0]))
    source.poll(0)
    source.poll(0)
    assert positions.gaps == []
    assert taken(source) == {P0: (0, 2, [0, 1])}
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
    assert taken(source) == {P0: (0, 3, [])}
    source.acknowledge({P0: 3}, {})
    source.poll(0)
    assert taken(source) == {}


def test_markers_at_the_end_of_a_quiet_partition_are_skipped_while_another_never_rests(group, positions):
    now = [0.0]
    source = source_of(group, positions, clock=lambda: now[0])
    group.assign(P0, P1)
    source.poll(0)
    group.places[P1] = 8
    now[0] += 2
    read(source, group, 0, 1)
    assert taken(source)[P1] == (0, 8, []), "the quiet partition keeps a lag"
