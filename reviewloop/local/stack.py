"""The local stack: Apache Kafka, PostgreSQL and, if asked for, a schema registry, started as one."""

import errno
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from signal import Signals
from typing import Protocol

from filelock import FileLock, Timeout

from reviewloop.local.kafka import Kafka
from reviewloop.local.places import OWN_SERVICES, STATE_FILE, StackError, free_port, is_free
from reviewloop.local.postgres import Postgres
from reviewloop.local.process import (
    Account,
    Process,
    Record,
    Say,
    can_enter,
    last_lines,
    service_account,
    stop,
)
from reviewloop.local.registry import Registry
from reviewloop.local.state import (
    KAFKA_LOG,
    POSTGRES_LOG,
    REGISTRY_LOG,
    ServiceState,
    StackState,
    StackStatus,
    read_state,
    read_status,
    write_service_file,
    write_state,
)

START_SECONDS = 120.0
MINIMUM_FREE_BYTES = 256 * 1024 * 1024
LOCK_FILE = "lock"
_POLL_SECONDS = 0.03
_RETRY_SECONDS = 1.0
_OUTSIDE = Path("/var/lib/reviewloop")  # for root, when the stack's own folder is closed to other users

Save = Callable[[StackState], None]
"""Keeps a state where a later command finds it."""


class LocalService(Protocol):
    """A server that the stack prepares, launches, waits for and stops.

    Attributes:
        name: For people.
        log: The file with its output.
        stop_signals: The signals that end it in an orderly way, the mildest first.
        stop_seconds: How long each of them may take.
    """

    name: str
    log: Path
    stop_signals: Sequence[Signals]
    stop_seconds: float

    def prepare(self, say: Say) -> None:
        """Make the files that a launch needs, and the data of a first start; existing data stays."""

    def launch(self, ports: Sequence[int], record: Record) -> Process:
        """Start it on `ports`; nothing of it runs before `record` has returned."""

    def is_ready(self, ports: Sequence[int], process: Process) -> bool:
        """Whether `process` serves clients now."""


class Stack:
    """One local stack.

    Args:
        directory: The folder for all its files, usually named ``.reviewloop`` (`stack_directory` finds the
            one for the current folder). It is made at the first `up`.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()

    def status(self) -> StackStatus:
        """What runs, and where it can be reached."""
        return read_status(self._directory)

    def up(self, progress: Say = lambda _: None, *, with_registry: bool = False) -> StackStatus:
        """Start what does not run yet, and wait until all of it answers.

        Harmless when everything runs. A crashed service is started again on its data. On any failure, an
        interrupt included, the services that this call started are stopped again.

        Args:
            progress: Told in a sentence what each longer step does; also from other threads.
            with_registry: Whether the stack has a schema registry from now on; one that it has already stays.

        Raises:
            StackError: A service cannot be started; the message says why and what to do.
        """
        _require_supported_system()
        with self._held(progress):
            account = service_account()
            state = read_state(self._directory) or self._new_state(account)
            if with_registry and state.registry is None:
                state = replace(state, registry=ServiceState(ports=(0, 0), directory="registry"))
            self._require_free_space(state)
            state = start_services(self._services(state, account), state, self._save, progress)
            write_service_file(self._directory, state)
        return self.status()

    def down(self, progress: Say = lambda _: None) -> StackStatus:
        """Stop all services; their data and ports stay for the next `up`. Harmless when nothing runs."""
        if read_state(self._directory) is not None:
            with self._held(progress):
                self._stop()
        return self.status()

    def delete(self, progress: Say = lambda _: None) -> None:
        """Stop all services and remove all their data. Harmless where there is no stack."""
        if not self._directory.exists():
            return
        with self._held(progress):
            state = self._stop()
            if state:
                shutil.rmtree(self._directory / state.postgres.directory, ignore_errors=True)
            for path in self._directory.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
                elif path.name != LOCK_FILE:
                    path.unlink()
            (self._directory / LOCK_FILE).unlink()  # last: a command that waits makes a new one at once
            with suppress(OSError):  # not empty when a command has
                self._directory.rmdir()

    def _stop(self) -> StackState | None:
        state = read_state(self._directory)
        return stop_services(self._services(state, None), state, self._save) if state else None

    def _save(self, state: StackState) -> None:
        write_state(self._directory, state)

    @contextmanager
    def _held(self, progress: Say) -> Iterator[None]:
        """Hold the stack alone, and turn the system's refusals into sentences."""
        try:
            self._require_own()
            with locked(self._directory, lambda: progress("Waiting for another command on this stack")):
                # Only root's services run as another user, who has to pass through here.
                self._directory.chmod(0o711 if os.geteuid() == 0 else 0o700)
                yield
        except OSError as err:
            reason = "the disk is full" if err.errno == errno.ENOSPC else err.strerror or str(err)
            where = err.filename or self._directory
            raise StackError(f"The local stack failed at {where}: {reason}.") from err

    def _require_own(self) -> None:
        if self._directory.exists() and self._directory.stat().st_uid != os.geteuid():
            raise StackError(f"{self._directory} belongs to another user: start a stack in another folder.")

    def _new_state(self, account: Account | None) -> StackState:
        """The state before the first start; saved before any data exists that only its password opens."""
        if (self._directory / "postgres").exists():
            raise StackError(
                f"{self._directory} holds data but not {STATE_FILE} with its password: remove the folder."
            )
        inside = can_enter(account, self._directory)
        place = "postgres" if inside else str(_OUTSIDE / f"postgres-{secrets.token_hex(4)}")
        state = StackState(
            kafka=ServiceState(ports=(0, 0), directory="kafka"),
            postgres=ServiceState(ports=(0,), directory=place),
            password=secrets.token_urlsafe(24),
        )
        self._save(state)
        return state

    def _require_free_space(self, state: StackState) -> None:
        outside = (self._directory / state.postgres.directory).parent
        outside.mkdir(parents=True, exist_ok=True)
        for folder in (self._directory, outside):
            free_bytes = shutil.disk_usage(folder).free
            if free_bytes < MINIMUM_FREE_BYTES:
                raise StackError(
                    f"The disk that holds {folder} has {free_bytes // 2**20} MB left, and the local stack "
                    f"needs {MINIMUM_FREE_BYTES // 2**20} MB: make room there."
                )

    def _services(self, state: StackState, account: Account | None) -> dict[str, LocalService]:
        here, database = self._directory, state.postgres.directory
        found: dict[str, LocalService] = {
            "kafka": Kafka(here / state.kafka.directory, here / KAFKA_LOG),
            "postgres": Postgres(here / database, here / POSTGRES_LOG, state.password, account),
        }
        if state.registry is not None:
            found["registry"] = Registry(here / state.registry.directory, here / REGISTRY_LOG)
        return found


def _require_supported_system() -> None:
    if sys.platform == "win32":
        raise StackError(
            f"The local stack runs on Linux and macOS: on Windows use it under WSL, or {OWN_SERVICES}."
        )


@contextmanager
def locked(directory: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the stack in `directory` alone; the folder is made where it is missing.

    Args:
        directory: The stack's folder.
        waiting: Called once when another command holds it and this one has to wait.
    """
    lock, timeout = FileLock(directory / LOCK_FILE), 0
    while not lock.is_locked:
        directory.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout)
        except Timeout:
            waiting()
            timeout = -1
        except FileNotFoundError:  # its holder removed the stack meanwhile
            continue
    try:
        yield
    finally:
        lock.release()


class _Ended(StackError):
    """A service ended before it was ready."""


def start_services(
    services: Mapping[str, LocalService], state: StackState, save: Save, say: Say
) -> StackState:
    """Launch those of `services` that are not alive, and wait until all of them are ready.

    Args:
        services: By their names in `state`.
        state: Of the stack; a service that lives but was never ready is waited for like a new one.
        save: Called with each new state before the next step, so that no process is forgotten.
        say: Progress.

    Raises:
        StackError: A service could not be prepared, ended, or was not ready in time. The services that were
            not ready before the call are then stopped.
    """
    unready = [name for name in services if not state.service(name).is_running()]
    idle = [name for name in unready if not state.service(name).is_alive()]
    if idle:
        with ThreadPoolExecutor(len(idle)) as pool:
            list(pool.map(lambda name: services[name].prepare(say), idle))
    newest = state

    def keep(made: StackState) -> None:
        nonlocal newest
        newest = made  # first, so that an interrupt while it is saved finds the process in it
        save(made)

    try:
        for name in idle:
            state = _launch(services[name], name, state, keep, say)
        for name in services:
            try:
                state = _await(services[name], name, state, keep)
            except _Ended:
                # Another program took its port meanwhile, or a killed server had not released everything.
                say(f"{services[name].name} ended while it started: trying once more")
                time.sleep(_RETRY_SECONDS)
                state = _launch(services[name], name, state, keep, say)
                state = _await(services[name], name, state, keep)
    except BaseException:  # an interrupt leaves no half-started stack either
        stop_services({name: services[name] for name in unready}, newest, save)
        raise
    return state


def stop_services(services: Mapping[str, LocalService], state: StackState, save: Save) -> StackState:
    """Stop all `services` at the same time, and forget their processes."""

    def end(name: str) -> None:
        process = state.service(name).process
        if process:
            stop(process, services[name].stop_signals, grace_seconds=services[name].stop_seconds)

    if services:
        with ThreadPoolExecutor(len(services)) as pool:
            list(pool.map(end, services))
    for name in services:
        state = state.with_service(name, replace(state.service(name), process=None, ready=False))
    save(state)
    return state


def _launch(service: LocalService, name: str, state: StackState, save: Save, say: Say) -> StackState:
    ports = _free_ports(service, state.service(name), state.all_ports(), say)
    say(f"Starting {service.name}")

    def launched(process: Process) -> StackState:
        return state.with_service(
            name, replace(state.service(name), ports=ports, process=process, ready=False)
        )

    return launched(service.launch(ports, lambda process: save(launched(process))))


def _await(service: LocalService, name: str, state: StackState, save: Save) -> StackState:
    current = state.service(name)
    deadline = time.monotonic() + START_SECONDS
    while True:
        ready = current.process is not None and service.is_ready(current.ports, current.process)
        if not current.is_alive():  # asked second: the answer may have come from another program on that port
            raise _Ended(f"{service.name} ended while it started; {_end_of_log(service)}")
        if ready:
            break
        if time.monotonic() > deadline:
            raise StackError(
                f"{service.name} does not answer within {START_SECONDS:.0f} seconds; {_end_of_log(service)}"
            )
        time.sleep(_POLL_SECONDS)
    if not current.ready:
        state = state.with_service(name, replace(current, ready=True))
        save(state)
    return state


def _end_of_log(service: LocalService) -> str:
    return f"the end of {service.log}:\n{last_lines(service.log)}"


def _free_ports(
    service: LocalService, current: ServiceState, taken: Sequence[int], say: Say
) -> tuple[int, ...]:
    """The remembered ports; each that was never chosen or that another program uses now is replaced."""
    chosen: list[int] = []
    for port in current.ports:
        if port and is_free(port):
            chosen.append(port)
            continue
        chosen.append(free_port({*taken, *chosen}))
        if port:
            say(f"Port {port} is taken by another program: {service.name} moves to port {chosen[-1]}")
    return tuple(chosen)
