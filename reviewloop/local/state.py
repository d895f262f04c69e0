"""What a stack remembers between commands: ports, the password, the processes that run."""

import contextlib
import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reviewloop.local.errors import StackError
from reviewloop.local.places import STATE_FILE
from reviewloop.local.process import Process

FORMAT = 1


@dataclass(frozen=True)
class ServiceState:
    """One service of a stack.

    Attributes:
        ports: Where it listens on loopback; clients connect to the first.
        directory: Its data, relative to the stack's folder unless it had to go elsewhere.
        process: The process started last; None after a stop.
        ready: Whether that process has answered.
    """

    ports: tuple[int, ...]
    directory: str
    process: Process | None = None
    ready: bool = False

    def is_alive(self) -> bool:
        """Whether its process still lives, ready or not."""
        return self.process is not None and self.process.is_alive()

    def is_running(self) -> bool:
        """Whether the service has answered and its process still lives."""
        return self.ready and self.is_alive()


@dataclass(frozen=True)
class StackState:
    """Everything in the state file.

    Attributes:
        kafka: Its ports are those for clients and for the controller.
        postgres: It has one port.
        password: Of PostgreSQL's user.
    """

    kafka: ServiceState
    postgres: ServiceState
    password: str = dataclasses.field(repr=False)

    def service(self, name: str) -> ServiceState:
        """The service called `name`: ``kafka`` or ``postgres``."""
        return self.kafka if name == "kafka" else self.postgres

    def with_service(self, name: str, service: ServiceState) -> "StackState":
        """This state with another `service` under `name`."""
        if name == "kafka":
            return dataclasses.replace(self, kafka=service)
        return dataclasses.replace(self, postgres=service)

    def all_ports(self) -> tuple[int, ...]:
        """Every port of the stack, chosen or still 0."""
        return self.kafka.ports + self.postgres.ports


def read_state(directory: Path) -> StackState | None:
    """The state of the stack in `directory`; None where none was ever started.

    Raises:
        StackError: The file is there but cannot be understood.
    """
    path = directory / STATE_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise StackError(
                f"{path} was written by another version of ReviewLoop: use that one to stop its stack."
            )
        return StackState(_service(content["kafka"]), _service(content["postgres"]), str(content["password"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as err:
        raise StackError(
            f"{path} is damaged: end the services named in it, then remove {directory}."
        ) from err
    except OSError as err:
        raise StackError(f"{path} cannot be read: {err.strerror}.") from err


def write_state(directory: Path, state: StackState) -> None:
    """Replace the state file of the stack in `directory`, all or nothing, readable by its owner alone."""
    replace_secret(
        directory / STATE_FILE, json.dumps({"format": FORMAT, **dataclasses.asdict(state)}, indent=2)
    )


def replace_secret(path: Path, content: str) -> None:
    """Replace a file, all or nothing, by one that its owner alone can read."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def locked(directory: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the stack in `directory` alone; the folder is made where it is missing.

    Args:
        directory: The stack's folder.
        waiting: Called once when another command holds it and this one has to wait.
    """
    import fcntl  # not on Windows, where modules that only look for a stack must still import

    while True:
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "lock"
        with path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(file, fcntl.LOCK_EX)
            if _is_same_file(file.fileno(), path):  # else its holder removed the stack meanwhile
                yield
                return


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _service(content: dict[str, Any]) -> ServiceState:
    process = content["process"]
    return ServiceState(
        ports=tuple(int(port) for port in content["ports"]),
        directory=str(content["directory"]),
        process=Process(int(process["pid"]), str(process["started"])) if process else None,
        ready=bool(content["ready"]),
    )
