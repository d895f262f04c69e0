"""kill -9 between every two steps of the main job: the next worker goes on as if nothing had happened."""

from collections.abc import Callable

import pytest

from tests.faults.postgres_proxy import PostgresProxy
from tests.faults.scene import Scene
from tests.faults.stop_points import POINTS

Make = Callable[..., Scene]

STATEMENTS = ("UPDATE stream_partition", "COPY review", "COPY prediction", "COPY dead_letter", "COMMIT")


# Which visit is the last: the first, or a later one too where there is a later one for sure.
VISITS = {"assigned": (1,), "polled": (1,)}


def test_workers_killed_between_every_two_steps_lose_nothing_and_store_nothing_twice(scene: Make):
    stream = scene()
    for point in POINTS:
        for visit in VISITS.get(point, (1, 2)):
            stream.publish(150)
            worker = stream.worker(stops={point: visit})
            worker.wait_for(f"at {point}")
            worker.kill()
            stream.accounts()
    stream.worker()
    stream.wait_until_stored()


@pytest.mark.parametrize("when", ["before", "after"])
def test_workers_killed_inside_their_transaction_leave_all_of_it_or_none(
    scene: Make, proxy: PostgresProxy, when: str
):
    stream = scene()
    for statement in STATEMENTS:
        stream.publish(150)
        stop = (proxy.stop_before if when == "before" else proxy.stop_after)(statement, visits=1)
        worker = stream.worker(url=proxy.url)
        stop.wait()
        worker.kill()
        proxy.cut()
        stream.accounts()
    stream.worker()
    stream.wait_until_stored()
