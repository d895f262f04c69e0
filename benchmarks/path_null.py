"""Topic to committed rows with a classifier that takes no time, and the same job with Quix Streams.

One worker process, with Kafka and PostgreSQL on the same cores: 220-byte reviews, lz4, four partitions, every
index of the schema. From the first delivery to the last commit.
"""

import json
import secrets
import subprocess
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from benchmarks.figures import report, report_machine
from benchmarks.made_up import made_up_messages
from benchmarks.peers.environments import peer_python
from benchmarks.services import Services, open_services
from benchmarks.stream import environment, fill, prepare, run_null_worker

REVIEWS = 200_000
REPETITIONS = 5


def main(_data: Path | None = None) -> None:
    report_machine()
    peer = peer_python("quixstreams")
    ours: list[float] = []
    theirs: list[float] = []
    with open_services() as services, services.topic() as topic:
        fill(services.bootstrap_servers, topic, made_up_messages(REVIEWS))
        for _ in range(REPETITIONS):
            ours.append(_rate(_run_ours(services, topic)))
            theirs.append(_rate(_run_quix(services, topic, peer)))
    report("path_null", ours, "reviews/s")
    report("path_null_quixstreams", theirs, "reviews/s")
    report("path_null_to_quixstreams", [a / b for a, b in zip(ours, theirs, strict=True)], "ratio")


def _rate(found: dict[str, Any]) -> float:
    if found["reviews"] < REVIEWS:
        raise RuntimeError(f"Only {found['reviews']} of {REVIEWS} reviews were stored.")
    return float(found["reviews"] / found["seconds"])


def _run_ours(services: Services, topic: str) -> dict[str, Any]:
    with services.database() as url:
        prepare(url)
        settings = environment(services.bootstrap_servers, url, topic, secrets.token_hex(4))
        return run_null_worker(settings, REVIEWS)


def _run_quix(services: Services, topic: str, python: Path) -> dict[str, Any]:
    with services.database() as url:
        address = make_url(url)
        place = [address.host, address.port, address.database, address.username, address.password]
        arguments = [services.bootstrap_servers, topic, secrets.token_hex(4), REVIEWS, *place]
        script = Path(__file__).parent / "peers" / "quixstreams_worker.py"
        done = subprocess.run(
            [str(python), str(script), *map(str, arguments)], stdout=subprocess.PIPE, check=True, timeout=300
        )
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found


if __name__ == "__main__":
    main()
