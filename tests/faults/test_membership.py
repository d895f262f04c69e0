"""Workers come and go, and partitions with them: between batches and in the middle of one."""

from collections.abc import Callable

import pytest

from tests.faults.fake_classifier import VERSIONS
from tests.faults.scene import Scene

Make = Callable[..., Scene]


def test_workers_that_join_and_leave_in_mid_stream_store_every_record_once(scene: Make):
    stream = scene(partitions=4)
    stream.publish(200)
    first = stream.worker(group="one", score_seconds=0.05)
    second = stream.worker(group="one", score_seconds=0.05)
    stream.publish(300)
    second.wait_for_event("partitions_positioned")
    assert first.stop() == 0
    third = stream.worker(group="one", score_seconds=0.05)
    stream.publish(300)
    third.wait_for_event("partitions_positioned")
    assert second.stop() == 0
    stream.wait_until_stored()


@pytest.mark.parametrize(("partitions", "workers"), [(7, 2), (1, 3)], ids=["more", "fewer"])
def test_more_partitions_than_workers_and_fewer_are_all_read(scene: Make, partitions: int, workers: int):
    stream = scene(partitions=partitions)
    stream.publish(150)
    for _ in range(workers):
        stream.worker(group="one")
    stream.publish(150)
    accounts = stream.wait_until_stored()
    assert len(accounts) == partitions


def test_a_rebalance_in_mid_batch_leaves_the_batch_to_one_of_the_two(scene: Make):
    stream = scene(partitions=4)
    stream.publish(200)
    first = stream.worker(group="one", stops={"scored": 2})
    first.wait_for("at scored")
    second = stream.worker(group="one")
    second.wait_for_event("partitions_positioned")
    stream.wait_until(lambda accounts: sum(account.next for account in accounts) > 40)
    first.go_on()
    stream.publish(100)
    stream.wait_until_stored()


def test_two_groups_on_one_stream_fight_and_still_store_every_record_once(scene: Make):
    """Nobody fences two groups from each other: only the compare-and-set does."""
    stream = scene(partitions=2)
    workers = [stream.worker(group=group) for group in ("one", "two")]
    for worker in workers:
        worker.wait_for_event("partitions_positioned")
    for _ in range(5):
        stream.publish(200)
    stream.wait_until_stored()
    assert any(worker.events("compare_and_set_lost") for worker in workers)


def test_an_adapter_activated_in_mid_batch_scores_the_next_batch_not_this_one(scene: Make):
    """Each version says something else of a text: a row that names the wrong one shows."""
    stream = scene(partitions=1)
    stream.publish(100, valid_only=True)
    worker = stream.worker(stops={"scored": 2})
    worker.wait_for("at scored")
    stream.activate(VERSIONS[1])
    worker.wait_for_event("adapter_swapped")
    worker.go_on()
    stream.publish(100, valid_only=True)
    stream.wait_until_stored()
    assert stream.sql("SELECT count(DISTINCT adapter_id) FROM prediction") == [(2,)]
