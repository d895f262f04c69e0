"""How soon rows come again when the database's primary is killed under load and its standby is promoted.

Reviews are published evenly. The primary gets SIGKILL, the standby is promoted at once, and the one worker,
which knows both hosts, is left alone. Replication is asynchronous. In the end each review has to be there
once.
"""

import secrets
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.figures import report, report_machine
from benchmarks.made_up import made_up_messages
from benchmarks.services import Services, connect, open_services
from benchmarks.stream import environment, finish, prepare, start_worker
from broker.publisher import OutgoingRecord, publish
from broker.settings import KafkaSettings
from tests.faults.standby import Pair

REPETITIONS = 5
REVIEWS = 6_000
REVIEWS_PER_SECOND = 300
STORED_BEFORE = 1_500
PATIENCE_SECONDS = 120
_STORED = "SELECT count(*) FROM review"
_ONCE = "SELECT count(*), count(DISTINCT review_id), (SELECT count(*) FROM prediction) FROM review"


def main(_data: Path | None = None) -> None:
    report_machine()
    with open_services() as services:
        found = [_fail_over(services) for _ in range(REPETITIONS)]
    for number, name in enumerate(("kill to rows", "of these, promotion", "promotion to rows")):
        report(f"faults_failover, {name}", [times[number] for times in found], "s")
    report("faults_failover, reviews missing or twice", [times[3] for times in found], "reviews")


def _fail_over(services: Services) -> tuple[float, float, float, int]:
    pair = Pair()
    try:
        with services.topic() as topic:
            prepare(pair.primary)
            settings = environment(services.bootstrap_servers, pair.both, topic, secrets.token_hex(4))
            worker = start_worker(settings, "benchmarks.null_worker", REVIEWS)
            with _publishing(services, topic):
                _wait_for(pair.primary, STORED_BEFORE, worker)
                killed_at = time.monotonic()
                pair.kill_primary()
                pair.promote()
                promoted_at = time.monotonic()
                _wait_for(pair.standby, _count(pair.standby) + 1, worker)
                rows_at = time.monotonic()
            finish(worker)
            reviews, ids, predictions = _account(pair.standby)
            wrong = abs(REVIEWS - reviews) + abs(REVIEWS - ids) + abs(REVIEWS - predictions)
            return rows_at - killed_at, promoted_at - killed_at, rows_at - promoted_at, wrong
    finally:
        pair.close()


@contextmanager
def _publishing(services: Services, topic: str) -> Iterator[None]:
    """Meanwhile, all reviews are published, so many a second."""
    kafka = KafkaSettings(bootstrap_servers=services.bootstrap_servers)
    records = (OutgoingRecord(key, value) for key, value in made_up_messages(REVIEWS))
    thread = threading.Thread(
        target=publish, args=(kafka, topic, records), kwargs={"rate": REVIEWS_PER_SECOND}
    )
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _wait_for(url: str, count: int, worker: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while _count(url) < count:
        if worker.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"The worker did not store {count} reviews; its errors stand above.")
        time.sleep(0.02)


def _count(url: str) -> int:
    with connect(url) as connection:
        row = connection.execute(_STORED).fetchone()
    return int(str(row[0])) if row else 0


def _account(url: str) -> tuple[int, int, int]:
    with connect(url) as connection:
        row = connection.execute(_ONCE).fetchone()
    if row is None:
        raise RuntimeError("The tables are not there.")
    return int(str(row[0])), int(str(row[1])), int(str(row[2]))


if __name__ == "__main__":
    main()
