"""A forwarder that is killed or frozen between every two steps: the topic has every row, in order."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storage.stream.sinks import sink_lags
from tests.conftest import TopicFactory
from tests.faults import sink_process
from tests.faults.postgres_proxy import PostgresProxy
from tests.faults.sink_process import POINTS
from tests.faults.worker_process import WorkerProcess
from tests.sink_scene import SinkScene

Start = Callable[..., WorkerProcess]

STATEMENTS = ("SELECT q.stream_partition_id", "UPDATE sink_position", "DELETE FROM sink_change", "COMMIT")


@pytest.fixture
def made(kafka_bootstrap: str, database: str, topic: TopicFactory) -> Iterator[SinkScene]:
    """A database with reviews of two partitions, and the topic of a sink."""
    scene = SinkScene(kafka_bootstrap, database, topic(3))
    yield scene
    scene.close()


@pytest.fixture
def start(made: SinkScene, tmp_path: Path) -> Iterator[Start]:
    """Starts forwarders, which are killed at the end."""
    started: list[WorkerProcess] = []

    def begin(url: str | None = None, **stops: int) -> WorkerProcess:
        request = {
            "bootstrap": made.bootstrap,
            "url": url or made.database_url,
            "topic": made.topic,
            "stops": {name.replace("_", " "): visit for name, visit in stops.items()},
        }
        started.append(WorkerProcess(request, tmp_path / f"sink-{len(started)}.log", sink_process.run))
        return started[-1]

    yield begin
    for process in started:
        process.kill()


def _change(made: SinkScene, number: int) -> None:
    """New rows in both partitions, and changes of older ones."""
    made.store(40)
    made.label(number % 2, number)
    made.label((number + 1) % 2, 39, "bad")
    made.rescore(number % 2, [2 * number, 2 * number + 1])


def _wait_until_published(made: SinkScene, process: WorkerProcess) -> None:
    deadline = time.monotonic() + 120
    while True:
        lags = sink_lags(made.database, "review-labels")
        if lags and not lags[0].records and not lags[0].changes:
            return
        assert process.is_alive(), process.log_text()[-3000:]
        assert time.monotonic() < deadline, f"{lags}\n{process.explain()}"
        time.sleep(0.05)


def test_forwarders_killed_between_every_two_steps_lose_nothing_and_keep_the_order(
    made: SinkScene, start: Start
):
    number = 0
    for point in POINTS:
        for visit in (1,) if point in {"opened", "connected"} else (1, 2):
            _change(made, number)
            process = start(**{point.replace(" ", "_"): visit})
            process.wait_for(f"at {point}")
            process.kill()
            number += 1
    _wait_until_published(made, start())
    made.check(may_repeat=True)


@pytest.mark.parametrize("when", ["before", "after"])
def test_forwarders_killed_inside_their_transaction_move_and_settle_all_of_a_step_or_nothing(
    made: SinkScene, start: Start, proxy: PostgresProxy, when: str
):
    _change(made, 0)
    _wait_until_published(made, first := start())
    first.kill()
    for number, statement in enumerate(STATEMENTS, 1):
        _change(made, number)
        stop = (proxy.stop_before if when == "before" else proxy.stop_after)(statement, visits=1)
        process = start(url=proxy.url)
        stop.wait()
        process.kill()
        proxy.cut()
    _wait_until_published(made, start())
    made.check(may_repeat=True)


def test_a_forwarder_that_lost_its_lock_while_it_was_frozen_sends_nothing_of_what_it_had_read(
    made: SinkScene, start: Start, proxy: PostgresProxy
):
    _change(made, 0)
    stop = proxy.stop_before("SELECT 1 AS still_held")
    frozen = start(url=proxy.url)
    stop.wait()
    # As the server does by itself when a transaction is idle for too long.
    made.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND state = 'idle in transaction'"
    )
    _wait_until_published(made, start())
    stop.release()
    frozen.wait_for_event("sink_forwarded_again")
    made.check(may_repeat=False)
