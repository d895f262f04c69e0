"""The state of each partition: positioned at the stored offset, and again after every doubt (I5)."""

import pytest

from tests.unit.consumer.scripted_group import (
    P0,
    P1,
    Delivered,
    read,
    source_of,
    submit,
    taken,
)


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
    source_of(group, positions).poll(0)
    group.log = {P0: (7, 95), P1: (0, 60)}
    group.assign(P1)
    source_of(group, positions).poll(0)
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
    read(source, group, 0, 1)
    positions.move(1, 30)
    group.revoke(P0)
    group.assign(P0)
    source.poll(0)
    assert group.places[P0] == 30
    assert taken(source) == {}


def test_a_lost_compare_and_set_positions_the_partition_anew(source, group, positions):
    group.assign(P0)
    source.poll(0)
    submit(source, group)
    positions.move(1, 5)
    source.acknowledge({}, {P0: 2})
    source.poll(0)
    assert group.places[P0] == 5


def test_nothing_is_positioned_while_older_records_are_on_their_way(source, group, positions):
    group.assign(P0)
    source.poll(0)
    submit(source, group)
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
    submit(source, group)
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
    submit(source, group)
    assert not source.is_settled, "records are on their way"
    source.acknowledge({P0: 2}, {})
    assert source.is_settled


@pytest.mark.parametrize("is_in_flight", [False, True])
def test_a_quiet_partition_whose_stored_offset_moves_is_positioned_anew_and_one_on_its_way_is_not(
    group, positions, is_in_flight: bool
):
    now = [0.0]
    source = source_of(group, positions, clock=lambda: now[0])
    group.assign(P0)
    source.poll(0)
    submit(source, group)
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
