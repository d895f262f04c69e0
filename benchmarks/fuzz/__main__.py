"""``python -m benchmarks.fuzz [--messages N] [--seed S]``: broken messages through a real worker.

Publishes N messages, runs a worker over them and accounts for each: a row with the very contents, or a dead
letter with the very bytes and the right reason. Prints one JSON object a chunk and one for the whole; fails
when the worker does, or when a message is not accounted for.
"""

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient, KafkaProducer

from benchmarks.fuzz.accounts import Place, Sent, account
from benchmarks.fuzz.mutations import messages
from benchmarks.services import Services, connect, open_services
from benchmarks.stream import environment, prepare

_PARTITIONS = 3
_CHUNK = 100_000
_WORKER_SECONDS = 600
_BREAKER_OFF = {
    "REVIEWLOOP_CONSUMER__BREAKER__MAX_INVALID_SHARE": "1",
    "REVIEWLOOP_CONSUMER__BREAKER__MAX_INVALID_RUN": "0",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000, help="how many")
    parser.add_argument("--seed", type=int, default=1, help="the first chunk's; each chunk has the next one")
    asked = parser.parse_args()
    total: Counter[str] = Counter()
    started = time.monotonic()
    with open_services() as services:
        for number, start in enumerate(range(0, asked.messages, _CHUNK)):
            chunk = fuzz(services, asked.seed + number, min(_CHUNK, asked.messages - start))
            print(json.dumps(chunk), flush=True)
            total.update(chunk["outcomes"])
    seconds = round(time.monotonic() - started, 1)
    print(json.dumps({"messages": total.total(), "seconds": seconds, "outcomes": dict(total.most_common())}))


def fuzz(services: Services, seed: int, count: int) -> dict[str, Any]:
    """One chunk through a topic, a database and a worker of its own.

    Returns:
        The seed, how many messages became what, and the worker's peak memory in megabytes.

    Raises:
        AssertionError: If a message is not accounted for.
        CalledProcessError: If the worker fails.
    """
    started = time.monotonic()
    with services.database() as url, services.topic(_PARTITIONS) as topic:
        prepare(url)
        _allow_any_time(services, topic)
        sent = _publish(services, topic, seed, count)
        worker = _run_worker(
            environment(services.bootstrap_servers, url, topic, topic, **_BREAKER_OFF), count
        )
        rows, letters = _read(url)
        outcomes = account(sent, rows, letters)
        _check_offsets(url, sent)
    return {
        "seed": seed,
        "messages": count,
        "reviews": worker["reviews"],
        "dead_letters": worker["dead_letters"],
        "worker_peak_megabytes": worker["peak_megabytes"],
        "seconds": round(time.monotonic() - started, 1),
        "outcomes": dict(outcomes.most_common()),
    }


def _allow_any_time(services: Services, topic: str) -> None:
    """Brokers refuse records from the future; those that do not are fuzzed as well."""
    from kafka.admin import ConfigResource, ConfigResourceType

    admin = KafkaAdminClient(bootstrap_servers=services.bootstrap_servers)
    try:
        # Never deleted for its age either: some records are of 1970.
        configs = {"message.timestamp.after.max.ms": str(2**63 - 1), "retention.ms": "-1"}
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=configs)])
    finally:
        admin.close()


def _publish(services: Services, topic: str, seed: int, count: int) -> list[Sent]:
    producer = KafkaProducer(
        bootstrap_servers=services.bootstrap_servers,
        acks="all",
        compression_type="lz4",
        linger_ms=20,
        max_request_size=2**24,
    )
    try:
        futures = [
            (producer.send(topic, item.value, item.key, item.headers, None, item.timestamp_ms), item)
            for item in messages(seed, count)
        ]
        producer.flush()
        return [Sent((future.get().partition, future.get().offset), item) for future, item in futures]
    finally:
        producer.close()


def _run_worker(settings: dict[str, str], count: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.fuzz.worker", str(count)],
        env=settings,
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        check=True,
        timeout=_WORKER_SECONDS,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _read(url: str) -> tuple[dict[Place, Any], dict[Place, Any]]:
    place = "s.partition, x.record & 1099511627775"
    join = "x JOIN stream_partition s ON s.id = (x.record >> 40)::int"
    with connect(url) as connection:
        rows = connection.execute(
            f"SELECT {place}, review_id, text, product, source, coalesce(stars_given, stars), "
            f"coalesce(stated_published_at, published_at) FROM review {join}"
        ).fetchall()
        letters = connection.execute(f"SELECT {place}, error, raw, key FROM dead_letter {join}").fetchall()
        (predictions,) = connection.execute("SELECT count(*) FROM prediction").fetchone() or (0,)
    assert predictions == len(rows), f"{predictions} predictions for {len(rows)} reviews"
    return {row[:2]: row[2:] for row in rows}, {row[:2]: row[2:] for row in letters}


def _check_offsets(url: str, sent: list[Sent]) -> None:
    ends: dict[int, int] = {}
    for (partition, offset), _ in sent:
        ends[partition] = max(ends.get(partition, 0), offset + 1)
    with connect(url) as connection:
        stored = dict(connection.execute("SELECT partition, next_offset FROM stream_partition").fetchall())
    assert {number: stored.get(number) for number in ends} == ends, f"{stored} is not {ends}"


if __name__ == "__main__":
    main()
