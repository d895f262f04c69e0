"""Fills topics, prepares databases and runs workers on both."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from kafka import KafkaProducer
from pydantic import SecretStr

from benchmarks.null_worker import NULL_ADAPTER
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.migrate import upgrade
from storage.settings import DatabaseSettings


def fill(
    bootstrap: str,
    topic: str,
    messages: Iterable[tuple[bytes, bytes]],
    partition_of: Callable[[int], int | None] = lambda _: None,
) -> int:
    """Publish (key, value) pairs, lz4, each by its key or to the partition of its number; how many."""
    sent = 0
    producer = KafkaProducer(
        bootstrap_servers=bootstrap,
        acks="all",
        compression_type="lz4",
        linger_ms=20,
        batch_size=131_072,
    )
    try:
        for key, value in messages:
            producer.send(topic, value, key=key, partition=partition_of(sent))
            sent += 1
        producer.flush()
    finally:
        producer.close()
    return sent


def prepare(url: str) -> None:
    """The schema, with the null classifier's adapter active."""
    with closing(open_database(url)) as database:
        upgrade(database)
        store = AdapterStore(database)
        store.add(NULL_ADAPTER, {"adapter_config.json": b"{}"})
        store.activate(NULL_ADAPTER, expected=None, decided_by="benchmark", reason="it costs nothing")


def open_database(url: str) -> Database:
    """A database as the product opens it."""
    return Database(DatabaseSettings(url=SecretStr(url)))


def environment(bootstrap: str, url: str, topic: str, group: str, **more: str) -> dict[str, str]:
    """The product's settings for a child process, and nothing else of this shell's settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("REVIEWLOOP_")}
    return {
        **kept,
        "REVIEWLOOP_KAFKA__BOOTSTRAP_SERVERS": bootstrap,
        "REVIEWLOOP_KAFKA__REVIEWS_TOPIC": topic,
        "REVIEWLOOP_KAFKA__GROUP_ID": group,
        "REVIEWLOOP_DATABASE__URL": url,
        **more,
    }


def run_null_worker(settings: dict[str, str], count: int) -> dict[str, Any]:
    """One worker process until it has stored so many reviews; what it saw."""
    return finish(start_worker(settings, "benchmarks.null_worker", count))


def start_worker(settings: dict[str, str], module: str, *arguments: object) -> "subprocess.Popen[bytes]":
    """A worker process that prints what it saw as JSON at its end."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        env=settings,
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.PIPE,
    )


def finish(worker: "subprocess.Popen[bytes]") -> dict[str, Any]:
    """Wait for a worker's end; what it saw."""
    printed, _ = worker.communicate(timeout=600)
    if worker.returncode:
        raise RuntimeError(f"The worker ended with {worker.returncode}; its errors stand above.")
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found


def run_command(settings: dict[str, str], *arguments: object) -> None:
    """One of the product's commands, with these settings."""
    command = [sys.executable, "-m", "reviewloop", *map(str, arguments)]
    subprocess.run(command, env=settings, stdout=subprocess.DEVNULL, check=True)
