"""The parts that ``reviewloop up`` runs on one machine: processes, logs, and when they are ready."""

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock, Timeout

from broker.publisher import require_topic
from broker.topics import create_topics
from reviewloop.demo.sample import REVIEWS_FILE, sample_reviews
from reviewloop.local.places import HOST, free_port, is_free
from reviewloop.operations.supervisor import Child
from reviewloop.settings import Settings
from reviewloop.wiring.topics import review_topics
from reviews.errors import ReviewLoopError, Unavailable, WrongUse, describe_exit
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.migrate import upgrade
from trainer.nightly.schedule import next_run

DEMO_RATE = 1.0
"""Bundled reviews a second: fast enough to see the page move, slow enough to see it move for minutes."""
_LOCK_FILE, _STATE_FILE = "up.lock", "up.json"
_LOOK_SECONDS = 1.0
_ANSWER_SECONDS = 2.0
_PARTITIONS = 4


@dataclass(frozen=True, slots=True)
class MachinePart:
    """One process of ``reviewloop up``.

    Attributes:
        child: The process.
        does: What it does, once it is ready: a few words.
        is_ready: Asked about once a second after its start.
        held: What has to happen before it starts, where its start waits for something.
    """

    child: Child
    does: str
    is_ready: Callable[[], bool] = lambda: True
    held: str = ""


@contextmanager
def alone(directory: Path, address: str) -> Iterator[None]:
    """Be the only ``reviewloop up`` of this folder's stack during the block.

    Args:
        directory: The stack's folder; it is made where it is missing.
        address: Of the console, for the one who comes second; empty without a console.

    Raises:
        ReviewLoopError: If another one runs; says which process, and where its console is.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock, state = FileLock(directory / _LOCK_FILE), directory / _STATE_FILE
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ReviewLoopError(f"'reviewloop up' runs here already{_of_the_other(state)}.") from None
    try:
        state.write_text(json.dumps({"pid": os.getpid(), "console": address}), encoding="utf-8")
        yield
    finally:
        state.unlink(missing_ok=True)
        lock.release()


def _of_the_other(state: Path) -> str:
    """Who the other one is, as far as its file tells."""
    try:
        found = json.loads(state.read_text(encoding="utf-8"))
        console = f", its console is at {found['console']}" if found["console"] else ""
        return f" (process {int(found['pid'])}){console}: Ctrl-C in its terminal ends it"
    except (OSError, ValueError, KeyError, TypeError):
        return ": Ctrl-C in its terminal ends it"


def prepare(settings: Settings, database: Database, *, is_local: bool) -> str:
    """Upgrade the schema, and see to the topics; the schema's revision.

    Topics are made on a local stack. Those of other brokers are their owner's: how many partitions and copies
    they get is decided there.

    Raises:
        WrongUse: If a topic of other brokers is missing.
        Unavailable: If a service does not answer.
    """
    reached = upgrade(database)
    kafka, dead_letters = settings.kafka, settings.consumer.dead_letter_topic
    read = [*review_topics(settings).names, *([kafka.labels_topic] if settings.consumer.read_labels else [])]
    if is_local:
        sinks = [sink.topic for sink in settings.sinks]
        names = [*read, settings.alerts.topic, *([dead_letters] if dead_letters else []), *sinks]
        create_topics(kafka, names, partitions=_PARTITIONS, replication_factor=1)
    else:
        for topic in read:
            require_topic(kafka, topic)
    return str(reached.current)


def require_free_port(settings: Settings) -> None:
    """Refuse to begin where the console could not listen.

    Raises:
        WrongUse: If another program has its port.
    """
    if settings.console.is_on_loopback and not is_free(settings.console.port):
        raise WrongUse(
            f"Port {settings.console.port} is in use by another program: stop that, or give the console "
            "another port by --port."
        )


def tasks_without_adapter(settings: Settings, store: AdapterStore) -> tuple[str, ...]:
    """The configured tasks that no adapter is active for."""
    return tuple(task for task in settings.consumer.tasks if store.active(task) is None)


def begin_with_zero_shot(task: str) -> str:
    """Make and activate the zero-shot adapter of a task that has no adapter; what came of it, in a sentence.

    In a process of its own: the model that it needs would stay in the memory of this one.
    """
    command = [sys.executable, "-m", "reviewloop", "adapters", "zero-shot", "--task", task, "--activate"]
    made = subprocess.run([*command, "--reason", "begun by up"], capture_output=True, check=False)
    said = made.stderr.decode(errors="replace").strip().splitlines() or [describe_exit(made.returncode)]
    if made.returncode:
        return f"no zero-shot adapter was made for '{task}'. {said[-1].removeprefix('Error: ')}"
    return said[-1]


class MachineParts:
    """Makes the parts of one machine.

    Args:
        settings: All settings, those of the running services included.
        store: Where adapters are registered.
        logs: The folder for the logs of the parts; it exists.
    """

    def __init__(self, settings: Settings, store: AdapterStore, logs: Path) -> None:
        self._settings = settings
        self._store = store
        self._logs = logs
        self._port = settings.metrics.port or free_port()
        self._looked_at = 0.0
        self._missing = settings.consumer.tasks

    def worker(self) -> MachinePart:
        """Scores reviews and takes labels in; starts as soon as every task has an active adapter."""
        settings = self._settings
        variables = {} if settings.metrics.port else {"REVIEWLOOP_METRICS__PORT": str(self._port)}
        return MachinePart(
            self._child("Worker", "consume", variables=variables, may_start=self._has_adapters),
            f"scores what comes to {review_topics(settings)}",
            self._worker_is_ready,
            "waits for an adapter",
        )

    def schedule(self) -> MachinePart:
        """Starts training runs."""
        night = next_run(self._settings.trainer.nightly.cron, datetime.now(UTC))
        when = f"{night:%Y-%m-%d %H:%M} UTC" if night else "never"
        return MachinePart(
            self._child("Schedule", "trainer", "schedule"), f"starts the next nightly run {when}"
        )

    def sink(self) -> MachinePart | None:
        """Publishes scored rows; None where no sink is configured."""
        sinks = self._settings.sinks
        if not sinks:
            return None
        topics = " and ".join(f"'{sink.topic}'" for sink in sinks)
        # A port is the worker's: two processes cannot share it.
        own = {"REVIEWLOOP_METRICS__PORT": str(self._port + 1)} if self._settings.metrics.port else {}
        return MachinePart(
            self._child("Sink", "sink", "run", variables=own), f"publishes scored rows to {topics}"
        )

    def drift_watches(self) -> Iterator[MachinePart]:
        """One watch a task."""
        tasks = self._settings.consumer.tasks
        for task in tasks:
            name = "Drift watch" if len(tasks) == 1 else f"Drift watch {task}"
            yield MachinePart(
                self._child(name, "drift", "watch", "--task", task), "compares the stream with the past"
            )

    def console(self) -> MachinePart | None:
        """Serves the pages; None where its packages are not installed."""
        if any(find_spec(package) is None for package in ("fastapi", "uvicorn", "argon2")):
            return None
        own = self._settings.console
        child = self._child("Console", "console", "--address", own.address, "--port", str(own.port))
        return MachinePart(
            child, f"serves {own.url}", lambda: answers(_reachable(own.address), own.port, "/log-in")
        )

    def demo(self) -> MachinePart:
        """Publishes the bundled reviews, slowly, as soon as the worker is ready."""
        options = ("--rate", str(DEMO_RATE))
        child = self._child(
            "Demo", "publish", str(REVIEWS_FILE), *options, may_start=self._worker_is_ready, is_endless=False
        )
        return MachinePart(
            child,
            f"publishes the {len(sample_reviews())} bundled reviews, one a second",
            held="waits for the worker",
        )

    def _child(
        self,
        name: str,
        *arguments: str,
        variables: dict[str, str] | None = None,
        may_start: Callable[[], bool] = lambda: True,
        is_endless: bool = True,
    ) -> Child:
        return Child(
            name,
            [sys.executable, "-m", "reviewloop", *arguments],
            variables or {},
            is_endless=is_endless,
            log=self._logs / f"{name.lower().replace(' ', '-')}.log",
            may_start=may_start,
        )

    def _has_adapters(self) -> bool:
        """Whether every task has an active adapter; the database is asked at most once a second."""
        if self._missing and time.monotonic() - self._looked_at >= _LOOK_SECONDS:
            try:
                self._missing = tasks_without_adapter(self._settings, self._store)
            except Unavailable:
                return False
            finally:
                self._looked_at = time.monotonic()
        return not self._missing

    def _worker_is_ready(self) -> bool:
        address = self._settings.metrics.address if self._settings.metrics.port else HOST
        return answers(_reachable(address), self._port, "/readyz")


def _reachable(address: str) -> str:
    """Where this machine reaches a server that listens on an address."""
    return HOST if address in {"0.0.0.0", "::", ""} else address  # noqa: S104  compared


def answers(host: str, port: int, path: str) -> bool:
    """Whether a server of this machine answers a request with success."""
    connection = http.client.HTTPConnection(host, port, timeout=_ANSWER_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
