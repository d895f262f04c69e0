"""SIGSTOP: a worker that is frozen holds up nobody, and does no harm when it wakes."""

import time
from collections.abc import Callable

import pytest

from tests.faults.postgres_proxy import PostgresProxy
from tests.faults.scene import Scene

Make = Callable[..., Scene]

_OPEN = (
    "SELECT count(*) FROM pg_stat_activity WHERE xact_start < now() - interval '0.1 s' "
    "AND datname = current_database() AND pid <> pg_backend_pid()"
)


def test_a_worker_frozen_past_its_session_stores_nothing_twice_when_it_wakes(scene: Make):
    stream = scene()
    stream.publish(200)
    frozen = stream.worker(group="one", stops={"scored": 2})
    frozen.wait_for("at scored")
    frozen.freeze()
    successor = stream.worker(group="one")
    stream.wait_until_stored()
    assert successor.events("partitions_positioned")
    frozen.thaw()
    frozen.go_on()
    stream.publish(100)
    frozen.wait_for_event("compare_and_set_lost")
    stream.wait_until_stored()


@pytest.mark.parametrize(
    ("frozen_at", "state"),
    [
        ("UPDATE stream_partition", "between two statements"),
        ("COPY prediction", "in the middle of a COPY, where PostgreSQL's own time-outs do not reach"),
    ],
)
def test_a_worker_frozen_inside_its_transaction_does_not_block_its_successor(
    scene: Make, proxy: PostgresProxy, frozen_at: str, state: str
):
    stream = scene()
    stream.publish(200)
    stop = (proxy.stop_before if frozen_at.startswith("COPY") else proxy.stop_after)(frozen_at)
    frozen = stream.worker(url=proxy.url)
    stop.wait()
    frozen.freeze()
    stop.release()
    time.sleep(0.2)
    assert stream.sql(_OPEN) == [(1,)], state
    stream.worker()
    stream.wait_until_stored()
    frozen.thaw()
    stream.publish(100)
    stream.wait_until_stored()
    assert frozen.is_alive()
