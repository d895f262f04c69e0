"""The local stack: Apache Kafka and PostgreSQL of one folder, started and stopped together."""

import errno
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reviewloop.local.account import Account, can_enter, service_account
from reviewloop.local.errors import OWN_SERVICES, StackError
from reviewloop.local.kafka import Kafka
from reviewloop.local.places import STATE_FILE, stack_directory
from reviewloop.local.postgres import Postgres
from reviewloop.local.process import Say
from reviewloop.local.service import Service
from reviewloop.local.starting import start_services, stop_services
from reviewloop.local.state import (
    ServiceState,
    StackState,
    locked,
    read_state,
    replace_secret,
    write_state,
)
from reviewloop.local.status import (
    KAFKA_LOG,
    POSTGRES_LOG,
    SERVICE_FILE,
    StackStatus,
    find_running,
    read_status,
    service_entry,
    status_of,
)

__all__ = ["Stack", "StackStatus", "find_running", "stack_directory"]

MINIMUM_FREE_BYTES = 256 * 1024 * 1024
_OUTSIDE = Path("/var/lib/reviewloop")  # for root, when the stack's own folder is closed to everybody else


class Stack:
    """One local stack.

    Args:
        directory: The folder that holds everything of it, by custom named ``.reviewloop``
            (`stack_directory` finds the one for the current folder). It is made at the first `up`.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()

    def status(self) -> StackStatus:
        """What runs, and where it can be reached."""
        return read_status(self._directory)

    def up(self, progress: Say = lambda _: None) -> StackStatus:
        """Start what does not run yet, and wait until all of it answers.

        Harmless when everything runs. A crashed service is started again on its data. On any failure, an
        interrupt included, the services that this call started are stopped again.

        Args:
            progress: Told in a sentence what each longer step does; also from other threads.

        Raises:
            StackError: A service cannot be started; the message says why and what to do.
        """
        _require_supported_system()
        with self._held(progress):
            account = service_account()
            state = read_state(self._directory) or self._new_state(account)
            self._require_free_space(state)
            state = start_services(self._services(state, account), state, self._save, progress)
            replace_secret(self._directory / SERVICE_FILE, service_entry(state))
            return status_of(self._directory, state)

    def down(self, progress: Say = lambda _: None) -> StackStatus:
        """Stop both services; their data and ports stay for the next `up`. Harmless when nothing runs."""
        if read_state(self._directory) is not None:
            with self._held(progress):
                self._stop()
        return self.status()

    def delete(self, progress: Say = lambda _: None) -> None:
        """Stop both services and remove all their data. Harmless where there is no stack."""
        if not self._directory.exists():
            return
        with self._held(progress):
            state = self._stop()
            if state:
                shutil.rmtree(self._directory / state.postgres.directory, ignore_errors=True)
            shutil.rmtree(self._directory)

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
                # Only root's services run as somebody else, who has to pass through here.
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
        """The state before the first start, kept before any data is made that only its password opens."""
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

    def _services(self, state: StackState, account: Account | None) -> dict[str, Service]:
        here, database = self._directory, state.postgres.directory
        return {
            "kafka": Kafka(here / state.kafka.directory, here / KAFKA_LOG),
            "postgres": Postgres(here / database, here / POSTGRES_LOG, state.password, account),
        }


def _require_supported_system() -> None:
    if sys.platform == "win32":
        raise StackError(
            f"The local stack runs on Linux and macOS: on Windows use it under WSL, or {OWN_SERVICES}."
        )
