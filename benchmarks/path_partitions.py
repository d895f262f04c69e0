"""What many partitions cost one worker: rows a second with 500 against 4, and the processor of an idle one.

One worker process with a classifier that takes no time, Kafka and PostgreSQL on the same cores, as in
path_null. Both topics hold the same reviews in runs of ``RUN_RECORDS`` a partition, which become batches of
about that size. Records of 500 partitions in turn would become batches of one or two records each, whatever
reads them: then batches are what is measured, not partitions.
"""

import os
import secrets
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.figures import report, report_machine
from benchmarks.made_up import made_up_messages
from benchmarks.services import Services, connect, open_services
from benchmarks.stream import environment, fill, prepare, run_null_worker, start_worker

REVIEWS = 200_000
REPETITIONS = 3
FEW, MANY = 4, 500
RUN_RECORDS = 50
IDLE_SECONDS = 20
_SETTLE_SECONDS = 15
_PATIENCE_SECONDS = 120


def main(_data: Path | None = None) -> None:
    report_machine()
    with open_services() as services, services.topic(FEW) as few, services.topic(MANY) as many:
        for topic, partitions in ((few, FEW), (many, MANY)):
            fill(services.bootstrap_servers, topic, made_up_messages(REVIEWS), in_runs(partitions))
        rates: dict[str, list[float]] = {few: [], many: []}
        for _ in range(REPETITIONS):
            for topic, found in rates.items():
                found.append(_rate(_run(services, topic)))
        report(f"path_partitions_{FEW}", rates[few], "reviews/s")
        report(f"path_partitions_{MANY}", rates[many], "reviews/s")
        ratios = [of_many / of_few for of_many, of_few in zip(rates[many], rates[few], strict=True)]
        report(f"path_partitions_{MANY}_to_{FEW}", ratios, "ratio")
    with open_services() as services, services.topic(MANY) as topic:
        report("path_partitions_idle", [_idle_share(services, topic)], "of a core")


def in_runs(partitions: int) -> Callable[[int], int]:
    """The partition of a record by its number: so many in a row go to one."""
    return lambda number: number // RUN_RECORDS % partitions


def _rate(found: dict[str, Any]) -> float:
    if found["reviews"] < REVIEWS:
        raise RuntimeError(f"Only {found['reviews']} of {REVIEWS} reviews were stored.")
    return float(found["reviews"] / found["seconds"])


def _run(services: Services, topic: str) -> dict[str, Any]:
    with services.database() as url:
        prepare(url)
        settings = environment(services.bootstrap_servers, url, topic, secrets.token_hex(4))
        return run_null_worker(settings, REVIEWS)


def _idle_share(services: Services, topic: str) -> float:
    """The processor time of a worker that owns every partition of an empty topic, by the time that passed."""
    with services.database() as url:
        prepare(url)
        settings = environment(services.bootstrap_servers, url, topic, secrets.token_hex(4))
        worker = start_worker(settings, "benchmarks.null_worker", REVIEWS)
        try:
            _wait_until_positioned(url)
            time.sleep(_SETTLE_SECONDS)
            before, began = _cpu_seconds(worker), time.monotonic()
            time.sleep(IDLE_SECONDS)
            return (_cpu_seconds(worker) - before) / (time.monotonic() - began)
        finally:
            worker.kill()
            worker.wait()


def _wait_until_positioned(url: str) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    with connect(url) as admin:
        while admin.execute("SELECT count(*) FROM stream_partition").fetchall() != [(MANY,)]:
            if time.monotonic() > deadline:
                raise RuntimeError("The worker does not get its partitions.")
            time.sleep(0.2)


def _cpu_seconds(process: "subprocess.Popen[bytes]") -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
