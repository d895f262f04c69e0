"""What a report over a million stored predictions costs, in time and memory, and a second look at it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import report, report_machine
from benchmarks.million import ADAPTERS, fill_database
from benchmarks.services import connect, open_services
from benchmarks.stream import prepare

REVIEWS = 1_000_000
_MEASURED = """
import json, resource, sys, time
from reviewloop.cli import main
sys.argv = ["reviewloop", "drift", "report", "--format", "json", "--since", sys.argv[1],
            "--output", sys.argv[2]]
cpu = time.process_time()
try:
    main()
except SystemExit as ended:
    if ended.code:
        raise
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"cpu": time.process_time() - cpu, "memory": memory}))
"""


def main(_data: Path | None = None) -> None:
    report_machine()
    with open_services() as services, services.database() as url:
        prepare(url)
        with connect(url) as connection:
            fill_database(connection, REVIEWS, adapters=1)
            since = _promote(connection)
        output = Path(f"/tmp/drift-{os.getpid()}.json")  # noqa: S108  removed below
        try:
            first, second = (_measure(url, since, output) for _ in range(2))
            found = json.loads(output.read_text())
        finally:
            output.unlink(missing_ok=True)
    print(json.dumps({"figure": "reviews in the window", "value": found["window"]["reviews"]}), flush=True)
    report("drift_cost report", [first["seconds"]], "s")
    report("drift_cost report, CPU of the client", [first["cpu"]], "s")
    report("drift_cost report, memory of the client", [first["memory"]], "MiB")
    report("drift_cost the same report again", [second["seconds"]], "s")


def _promote(connection: Any) -> str:
    """The adapter serves since the first review; when its reference ends and the window begins."""
    connection.execute(
        "INSERT INTO adapter_activation (task, adapter_id, replaces, activated_at, decided_by, reason) "
        "SELECT 'sentiment', id, (SELECT max(id) FROM adapter_activation), "
        "       (SELECT min(scored_at) FROM prediction), 'benchmark', 'first' "
        "  FROM adapter WHERE version = %s",
        (ADAPTERS[0],),
    )
    since = connection.execute(
        "SELECT scored_at FROM prediction ORDER BY scored_at OFFSET 5001 LIMIT 1"
    ).fetchone()
    return str(since[0].isoformat())


def _measure(url: str, since: str, output: Path) -> dict[str, float]:
    environment = {**os.environ, "REVIEWLOOP_DATABASE__URL": url, "PYTHONPATH": str(Path.cwd())}
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _MEASURED, since, str(output)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {**found, "seconds": time.perf_counter() - started}


if __name__ == "__main__":
    main()
