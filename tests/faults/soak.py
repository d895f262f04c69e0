"""A seeded mix of every fault on three workers, a broker and a database, and the account at its end.

    python -m tests.faults.soak --seed 1 --minutes 3

A publisher goes on all the while. An independent reader of the topic writes down what Kafka delivers; at the
end each of these records has to be stored exactly once, or lie in a recorded gap. Prints one line of JSON.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.faults.fake_classifier import VERSIONS
from tests.faults.own_stack import OwnStack
from tests.faults.postgres_proxy import PostgresProxy
from tests.faults.scene import Scene
from tests.faults.soak_stream import Publisher, TopicReader, delete_records
from tests.faults.worker_process import WorkerProcess

WORKERS = 3
PARTITIONS = 6
DRAIN_SECONDS = 180.0


@dataclass
class Seat:
    """A place for one worker, with its own way to the database."""

    proxy: PostgresProxy
    worker: WorkerProcess


class Soak:
    """One run.

    Args:
        seed: Of the mix.
        stack: Kafka and PostgreSQL, which get killed.
        scene: The stream.
    """

    def __init__(self, seed: int, stack: OwnStack, scene: Scene) -> None:
        self._random = random.Random(seed)
        self._stack = stack
        self._scene = scene
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._seats = [self._new_seat() for _ in range(WORKERS)]
        self._served = 0
        self.faults: Counter[str] = Counter()
        self.reader = TopicReader(scene.bootstrap, scene.topic, PARTITIONS, scene.truth)
        self.publisher = Publisher(scene.bootstrap, scene.topic, seed)
        self._mix: dict[Callable[[Seat], None], int] = {
            self._kill_worker: 6,
            self._freeze_worker: 4,
            self._freeze_in_copy: 2,
            self._cut_connections: 4,
            self._cut_at_a_statement: 6,
            self._worker_leaves: 3,
            self._another_group: 2,
            self._end_every_session: 2,
            self._kill_postgres: 2,
            self._kill_kafka: 1,
            self._delete_unread: 2,
            self._change_adapter: 2,
        }

    def run(self, seconds: float) -> None:
        """Do harm for so long, then mend everything."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            fault = self._random.choices([*self._mix], [*self._mix.values()])[0]
            self.faults[fault.__name__.strip("_")] += 1
            fault(self._random.choice(self._seats))
            self._pass_seconds(self._random.uniform(0.3, 3.0))
            self._check_that_nobody_gave_up()
        self._pass_seconds(max((at - time.monotonic() for at, _ in self._later), default=0))
        self._stack.start()
        self.publisher.stop()

    def settle(self) -> float:
        """Wait until everything is stored, check it, and say how long that took, in seconds."""
        started = time.monotonic()
        ends = self.reader.ends()
        while True:
            self._check_that_nobody_gave_up()
            reached = {row[0]: row[1] for row in self._positions()}
            if all(reached.get(partition, 0) >= end for partition, end in ends.items()):
                break
            if time.monotonic() - started > DRAIN_SECONDS:
                logs = "\n".join(seat.worker.explain() for seat in self._seats)
                raise AssertionError(f"stored {reached} of {ends}: {logs}")
            time.sleep(0.2)
        taken = time.monotonic() - started
        self.reader.read_up_to(ends)
        self._scene.accounts()
        return taken

    def close(self) -> None:
        self._scene.close()
        for seat in self._seats:
            seat.proxy.close()
        self.publisher.stop()
        self.reader.stop()

    def _new_seat(self) -> Seat:
        proxy = PostgresProxy(self._scene.database_url)
        return Seat(proxy, self._start(proxy))

    def _start(self, proxy: PostgresProxy, group: str = "soak") -> WorkerProcess:
        return self._scene.worker(
            group=group,
            url=proxy.url,
            ready=False,
            score_seconds=0.02,
            kafka={"silence_seconds": 3},
            consumer={"shutdown_grace_seconds": 60},
        )

    def _pass_seconds(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            due = [item for item in self._later if item[0] <= now]
            self._later = [item for item in self._later if item[0] > now]
            for _, action in due:
                action()
            if now >= end:
                return
            time.sleep(0.05)

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + seconds, action))

    def _check_that_nobody_gave_up(self) -> None:
        for worker in self._scene.workers:
            if not worker.is_alive() and not worker.expected_end:
                raise AssertionError(f"a worker ended by itself: {worker.log_text()[-5000:]}")

    def _positions(self) -> list[tuple[int, int]]:
        return self._scene.sql("SELECT partition, next_offset FROM stream_partition")

    def _kill_worker(self, seat: Seat) -> None:
        seat.worker.kill()
        seat.proxy.cut()
        seat.worker = self._start(seat.proxy)

    def _worker_leaves(self, seat: Seat) -> None:
        """SIGTERM; it may take a while to drain, next to its successor."""
        seat.worker.thaw()
        seat.worker.ask_to_stop()
        seat.worker = self._start(seat.proxy)

    def _freeze_worker(self, seat: Seat) -> None:
        worker = seat.worker
        worker.freeze()
        self._after(self._random.uniform(0.5, 12), worker.thaw)

    def _freeze_in_copy(self, seat: Seat) -> None:
        stop = seat.proxy.stop_before("COPY prediction")
        if stop.reached(2):
            seat.worker.freeze()
            stop.release()
            self._after(self._random.uniform(3, 8), seat.worker.thaw)
        seat.proxy.forget(stop)

    def _cut_connections(self, seat: Seat) -> None:
        seat.proxy.cut()

    def _cut_at_a_statement(self, seat: Seat) -> None:
        statement = self._random.choice(["UPDATE stream_partition", "COPY review", "COMMIT", "COMMIT"])
        arm = self._random.choice([seat.proxy.stop_before, seat.proxy.stop_after])
        stop = arm(statement)
        if stop.reached(2):
            seat.proxy.cut()
        seat.proxy.forget(stop)

    def _another_group(self, seat: Seat) -> None:
        """A worker of another group reads the same partitions for a while: only compare-and-set fences it."""
        worker = self._start(seat.proxy, group=f"other-{self.faults['another_group']}")
        self._after(self._random.uniform(3, 8), worker.kill)

    def _end_every_session(self, _: Seat) -> None:
        self._scene.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    def _kill_postgres(self, _: Seat) -> None:
        self._stack.kill_postgres()
        self._pass_seconds(self._random.uniform(0, 3))
        self._stack.start()

    def _kill_kafka(self, _: Seat) -> None:
        self._stack.kill_kafka()
        self._pass_seconds(self._random.uniform(0, 5))
        self._stack.start()

    def _delete_unread(self, _: Seat) -> None:
        """Retention overtakes the workers: what comes while all of them are frozen is deleted from Kafka."""
        partition = self._random.randrange(PARTITIONS)
        frozen = [seat.worker for seat in self._seats]
        for worker in frozen:
            worker.freeze()
        self._pass_seconds(1.5)
        if seen := self.reader.seen(partition):
            delete_records(self._scene.bootstrap, self._scene.topic, partition, seen)
        for worker in frozen:
            worker.thaw()

    def _change_adapter(self, _: Seat) -> None:
        self._served += 1
        self._scene.activate(VERSIONS[self._served % 2])


def main(seed: int, minutes: float) -> dict[str, object]:
    """Run once and say how it went.

    Raises:
        AssertionError: If a record was lost, stored twice or stored wrongly, or a worker gave up.
    """
    folder = Path(tempfile.mkdtemp(prefix="reviewloop-soak-"))
    stack = OwnStack()
    scene = stack.scene(folder, PARTITIONS)
    soak = Soak(seed, stack, scene)
    try:
        soak.run(minutes * 60)
        drained = soak.settle()
        accounts = scene.accounts()
        lost = sum(len(worker.events("compare_and_set_lost")) for worker in scene.workers)
        return {
            "seed": seed,
            "minutes": minutes,
            "faults": dict(sorted(soak.faults.items())),
            "faults_total": soak.faults.total(),
            "workers_started": len(scene.workers),
            "delivered": sum(map(len, scene.truth.values())),
            "reviews": sum(len(account.reviews) for account in accounts),
            "dead_letters": sum(len(account.dead_letters) for account in accounts),
            "in_gaps": sum(account.records_in_gaps(scene.truth[account.partition]) for account in accounts),
            "gaps": sum(len(account.gaps) for account in accounts),
            "lost_compare_and_sets": lost,
            "frozen_writers_ended": sum(
                len(worker.events("frozen_writers_ended")) for worker in scene.workers
            ),
            "aborted_transactions": soak.publisher.aborted,
            "lost": 0,
            "twice": 0,
            "seconds_to_settle": round(drained, 1),
        }
    finally:
        soak.close()
        stack.delete()
        shutil.rmtree(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=3.0)
    options = parser.parse_args()
    try:
        sys.stdout.write(json.dumps(main(options.seed, options.minutes)) + "\n")
    except (AssertionError, psycopg.Error) as err:
        sys.stderr.write(f"{err}\n")
        sys.stdout.write(
            json.dumps({"seed": options.seed, "minutes": options.minutes, "failed": True}) + "\n"
        )
        sys.exit(1)
