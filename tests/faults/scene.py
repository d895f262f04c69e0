"""One stream under test: what was published is known, so what must be stored is known."""

import json
import random
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
from kafka import KafkaProducer
from pydantic import SecretStr
from sqlalchemy import make_url

from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.settings import DatabaseSettings
from tests.faults.accounting import Account, Truth, read_accounts
from tests.faults.fake_classifier import POISON, VERSIONS, fake_adapter
from tests.faults.worker_process import PATIENCE_SECONDS, WorkerProcess

SESSION_MS = 6_000  # the shortest that a broker allows by default


class Scene:
    """A topic, a database with its schema and two adapters, and workers on both.

    Args:
        bootstrap: Of the broker.
        database_url: Of a migrated database.
        topic: Made already.
        folder: For logs.
    """

    def __init__(self, bootstrap: str, database_url: str, topic: str, folder: Path) -> None:
        self.bootstrap = bootstrap
        self.database_url = database_url
        self.topic = topic
        self.folder = folder
        self.truth: Truth = defaultdict(dict)
        self.truth_before: dict[str, Truth] = {}  # of earlier topics of the same name, by their ids
        self.workers: list[WorkerProcess] = []
        self._random = random.Random(7)
        self._published = 0
        with self._storage() as database:
            store = AdapterStore(database)
            for version in VERSIONS:
                store.add(fake_adapter(version), {"adapter.json": b"{}"})
        self.activate(VERSIONS[0])

    def activate(self, version: str) -> None:
        """Let an adapter serve from now on."""
        with self._storage() as database:
            store = AdapterStore(database)
            active = store.active("sentiment")
            store.activate(fake_adapter(version), expected=active, decided_by="test", reason="it is told to")

    def publish(self, count: int, *, valid_only: bool = False) -> None:
        """Publish messages of every kind, spread over the partitions, and remember where they went."""
        self.publish_raw([self._message(valid_only=valid_only) for _ in range(count)])

    def publish_raw(self, values: Iterable[bytes | None], partition: int | None = None) -> None:
        """Publish these values and remember where they went."""
        producer = KafkaProducer(
            bootstrap_servers=self.bootstrap, acks="all", linger_ms=5, enable_idempotence=True
        )
        try:
            sent = [
                (value, producer.send(self.topic, value, key=self._key(), partition=partition))
                for value in values
            ]
            producer.flush(60)
            for value, future in sent:
                place = future.get(10)
                self.truth[place.partition][place.offset] = value
        finally:
            producer.close()

    def worker(
        self,
        *,
        stops: dict[str, int] | None = None,
        group: str | None = None,
        url: str | None = None,
        score_seconds: float = 0.0,
        ready: bool = True,
        kafka: dict[str, Any] | None = None,
        database: dict[str, Any] | None = None,
        consumer: dict[str, Any] | None = None,
    ) -> WorkerProcess:
        """Start a worker; by default in a group of its own, so that nobody waits for a dead member."""
        request = {
            "settings": {
                "kafka": {
                    "bootstrap_servers": self.bootstrap,
                    "reviews_topic": self.topic,
                    "group_id": group or f"{self.topic}-{secrets.token_hex(4)}",
                    "session_timeout_ms": SESSION_MS,
                    "heartbeat_interval_ms": 500,
                    **(kafka or {}),
                },
                "database": {
                    "url": url or self.database_url,
                    "idle_in_transaction_timeout_seconds": 2,
                    "connect_timeout_seconds": 2,
                    **(database or {}),
                },
                "consumer": {
                    "max_batch_reviews": 40,
                    "max_wait_seconds": 0.05,
                    "retry_max_seconds": 0.5,
                    "adapter_poll_seconds": 0.1,
                    "shutdown_grace_seconds": 15,
                    "breaker": {"max_invalid_share": 1.0, "max_invalid_run": 0},
                    **(consumer or {}),
                },
            },
            "stops": stops or {},
            "score_seconds": score_seconds,
        }
        worker = WorkerProcess(request, self.folder / f"worker-{len(self.workers)}.log")
        self.workers.append(worker)
        if ready:
            worker.wait_for("ready")
        return worker

    def accounts(self) -> list[Account]:
        """What the database holds of every stream of the topic; each is checked to be exact so far.

        Raises:
            AssertionError: If a record is missing, twice, or not what was published.
        """
        accounts = read_accounts(self.database_url, self.topic)
        for account in accounts:
            truth = self.truth_before.get(account.topic_id, self.truth)
            account.check(truth[account.partition])
        return accounts

    def wait_until_stored(self, seconds: float = PATIENCE_SECONDS) -> list[Account]:
        """Wait until everything published is accounted for; then check it exactly.

        Raises:
            AssertionError: If that takes too long, or something is not as published.
        """
        ends = {partition: max(records) + 1 for partition, records in self.truth.items() if records}

        def is_done(accounts: list[Account]) -> bool:
            reached = {account.partition: account.next for account in accounts}
            return all(reached.get(partition, 0) >= end for partition, end in ends.items())

        self.wait_until(is_done, seconds)
        return self.accounts()

    def wait_until(self, holds: Callable[[list[Account]], bool], seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until something holds of the accounts, which are checked all the while."""
        deadline = time.monotonic() + seconds
        while not holds(accounts := self.accounts()):
            for worker in self.workers:
                assert worker.is_alive() or worker.expected_end, worker.log_text()[-3000:]
            assert time.monotonic() < deadline, f"after {seconds} s: {accounts}\n" + "\n".join(
                w.explain() for w in self.workers
            )
            time.sleep(0.1)

    def sql(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """The rows of a query, past any proxy."""
        url = make_url(self.database_url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(query, parameters)
            return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()

    def _storage(self) -> "closing[Database]":
        return closing(Database(DatabaseSettings(url=SecretStr(self.database_url))))

    def _key(self) -> bytes:
        return self._random.randbytes(6)

    def _message(self, *, valid_only: bool) -> bytes | None:
        self._published += 1
        return message(self._random, self._published, valid_only=valid_only)


def message(source: random.Random, number: int, *, valid_only: bool = False) -> bytes | None:
    """One message: mostly a review; else a tombstone, bad UTF-8, bad stars, or a text the model fails on."""
    review = {"id": f"r{number % 500}", "text": f"review {number} " + "very " * source.randrange(12)}
    kind = 0.0 if valid_only else source.random()
    if kind > 0.97:
        return None
    if kind > 0.94:
        return b"\xff not json " + str(number).encode()
    if kind > 0.91:
        review["stars"] = 6
    elif kind > 0.90:
        review["text"] += POISON
    return json.dumps(review).encode()
