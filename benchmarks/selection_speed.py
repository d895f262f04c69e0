"""How long a night's choice takes among 1,000,000 candidates, and how much memory, strategy by strategy.

First from columns in memory, then all the way from a PostgreSQL with 1,000,000 reviews: read, chosen,
near-duplicates left out, audit items added.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from benchmarks.choice_process import EMBEDDED, HIDDEN
from benchmarks.figures import report, report_machine
from benchmarks.million import ADAPTERS, fill_database
from benchmarks.services import connect, open_services
from benchmarks.stream import environment, prepare
from trainer.selection.strategies import STRATEGIES

ROWS = 1_000_000
COUNT = 500
REPETITIONS = 3
_ANSWERED = 5_000


def main(_data: Path | None = None) -> None:
    report_machine()
    for strategy in STRATEGIES:
        runs = [_run({}, "pool", strategy, ROWS, COUNT, seed) for seed in range(REPETITIONS)]
        _report(f"selection_speed {strategy}, from memory", runs)
    with open_services() as services, services.database() as url:
        prepare(url)
        _fill(url)
        settings = environment(services.bootstrap_servers, url, "none", "none")
        for strategy in STRATEGIES:
            runs = [_run(settings, "database", strategy, COUNT, seed) for seed in range(REPETITIONS)]
            report(f"selection_speed {strategy}, candidates", [run["rows"] for run in runs], "rows")
            report(f"selection_speed {strategy}, reading", [run["reading_seconds"] for run in runs], "s")
            _report(f"selection_speed {strategy}, a whole night", runs)


def _report(figure: str, runs: list[dict[str, Any]]) -> None:
    if any(run["chosen"] < COUNT for run in runs):
        raise RuntimeError(f"{figure}: fewer than {COUNT} were chosen")
    report(figure, [run["seconds"] for run in runs], "s")
    report(f"{figure}, greatest memory", [run["peak_bytes"] / 2**20 for run in runs], "MiB")


def _run(settings: dict[str, str], *arguments: object) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.choice_process", *map(str, arguments)],
        env=settings or None,
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.PIPE,
        check=True,
    )
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def _fill(url: str) -> None:
    """Reviews, the newest adapter active, embeddings of the least certain tenth by it, and some answers."""
    with connect(url) as connection:
        fill_database(connection, ROWS)
        newest = connection.execute("SELECT id FROM adapter WHERE version = %s", (ADAPTERS[-1],)).fetchone()
        connection.execute(
            "INSERT INTO adapter_activation (task, adapter_id, replaces, decided_by, reason) "
            "SELECT 'sentiment', %s, max(id), 'benchmark', 'the newest' FROM adapter_activation",
            newest,
        )
        connection.execute(
            "INSERT INTO label (record, task, label, annotator, source, labelled_at) "
            "SELECT record, task, label, 'made-up', 'benchmark', scored_at FROM prediction "
            "ORDER BY record LIMIT %s",
            (_ANSWERED,),
        )
        _embed(connection, newest[0] if newest else None)


def _embed(connection: "psycopg.Connection[Any]", adapter_id: object) -> None:
    query = "SELECT record FROM prediction ORDER BY margin LIMIT %s"
    records = connection.execute(query, (int(EMBEDDED * ROWS),)).fetchall()
    random = np.random.default_rng(1)
    statement = "COPY embedding (record, task, adapter_id, reason, vector) FROM STDIN"
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for (record,) in records:
            vector = random.standard_normal(HIDDEN, np.float32).astype("<f2").tobytes()
            copy.write_row((record, "sentiment", adapter_id, "uncertain", vector))


if __name__ == "__main__":
    main()
