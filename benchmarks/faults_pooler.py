"""Behind PgBouncer in both of its modes: how fast rows come, and how soon again after a writer froze.

Speed: a filled topic, one worker, a classifier that takes no time. The frozen writer: a worker
is stopped by SIGSTOP amid its COPY, where PostgreSQL's own time-outs do not reach, and another one
starts; the time-out is two seconds.
"""

import secrets
import tempfile
import time
from contextlib import closing
from pathlib import Path

from benchmarks.figures import report, report_machine
from benchmarks.made_up import made_up_messages
from benchmarks.services import Services, open_services
from benchmarks.stream import environment, fill, prepare, run_null_worker
from tests.faults.pooler import PgBouncer, PoolMode
from tests.faults.postgres_proxy import PostgresProxy
from tests.faults.scene import Scene

REPETITIONS = 5
REVIEWS = 100_000
MODES: tuple[PoolMode, ...] = ("session", "transaction")


def main(_data: Path | None = None) -> None:
    report_machine()
    with open_services() as services:
        with services.topic() as topic:
            fill(services.bootstrap_servers, topic, made_up_messages(REVIEWS))
            for way in (None, *MODES):
                rates = [_rate(services, topic, way) for _ in range(REPETITIONS)]
                report(f"faults_pooler, {way or 'no pooler'}", rates, "reviews/s")
        for mode in MODES:
            seconds = [_frozen(services, mode) for _ in range(REPETITIONS)]
            report(f"faults_pooler, frozen writer to rows, {mode}", seconds, "s")


def _rate(services: Services, topic: str, mode: PoolMode | None) -> float:
    with services.database() as url:
        prepare(url)
        if mode is None:
            return _run(services, topic, url)
        with closing(PgBouncer(url, mode)) as pooler:
            return _run(services, topic, pooler.url)


def _run(services: Services, topic: str, url: str) -> float:
    settings = environment(services.bootstrap_servers, url, topic, secrets.token_hex(4))
    found = run_null_worker(settings, REVIEWS)
    return float(found["reviews"] / found["seconds"])


def _frozen(services: Services, mode: PoolMode) -> float:
    """Seconds from the freeze to the successor's first row."""
    with services.topic(1) as topic, services.database() as url:
        prepare(url)
        return _seconds_to_rows(services, topic, url, mode)


def _seconds_to_rows(services: Services, topic: str, url: str, mode: PoolMode) -> float:
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(PgBouncer(url, mode)) as pooler,
        closing(PostgresProxy(pooler.url)) as proxy,
        closing(Scene(services.bootstrap_servers, url, topic, Path(folder))) as scene,
    ):
        stop = proxy.stop_before("COPY prediction")
        scene.publish(100)
        worker = scene.worker(url=proxy.url)
        stop.wait()
        frozen_at = time.monotonic()
        worker.freeze()
        stop.release()
        scene.worker(url=pooler.url)
        scene.wait_until(lambda accounts: any(account.next for account in accounts))
        seconds = time.monotonic() - frozen_at
        scene.wait_until_stored()
        return seconds


if __name__ == "__main__":
    main()
