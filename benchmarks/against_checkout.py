"""The speed of the stream's path and of the classifier here and in another checkout, in turns.

``python -m benchmarks.against_checkout DIR --data DATA``: DIR is for instance a worktree of an older
commit. Each repetition runs both on the same Kafka, PostgreSQL and texts, each in a process of its own
that imports its own modules.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks import path_null
from benchmarks.figures import report, report_machine
from benchmarks.made_up import made_up_messages
from benchmarks.services import open_services
from benchmarks.stream import fill

REPETITIONS = 5
_HERE = Path(__file__).parent.parent
_PATH = """
import sys
from benchmarks import path_null
from benchmarks.services import Services
services = Services(sys.argv[1], sys.argv[2])
print(path_null._rate(path_null._run_ours(services, sys.argv[3])))
"""
_CLASSIFIER = """
import sys
from pathlib import Path
from benchmarks.classifier_speed import texts_of_each_kind
from benchmarks.contenders import ours
texts = texts_of_each_kind(Path(sys.argv[1]))["short"]
run = ours(engine="packed")
run(texts)
print(len(texts) / min(run(texts) for _ in range(3)))
"""


def main(older: Path, data: Path) -> None:
    """Print reviews and texts a second of both checkouts, and the ratios within each repetition."""
    report_machine()
    with open_services() as services, services.topic() as topic:
        fill(services.bootstrap_servers, topic, made_up_messages(path_null.REVIEWS))
        _race("path_null", older, _PATH, services.bootstrap_servers, services.url, topic)
    _race("classifier_short_packed", older, _CLASSIFIER, data.resolve())


def _race(figure: str, older: Path, program: str, *arguments: object) -> None:
    here: list[float] = []
    there: list[float] = []
    for _ in range(REPETITIONS):
        here.append(_run(_HERE, program, *arguments))
        there.append(_run(older.resolve(), program, *arguments))
    report(f"{figure}.here", here, "1/s")
    report(f"{figure}.older", there, "1/s")
    report(f"{figure}.here_over_older", [new / old for new, old in zip(here, there, strict=True)], "times")


def _run(checkout: Path, program: str, *arguments: object) -> float:
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        stdout=subprocess.PIPE,
        check=True,
        timeout=600,
    )
    return float(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("older", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    asked = parser.parse_args()
    main(asked.older, asked.data)
