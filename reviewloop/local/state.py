"""The stored state of a local stack, and whether it runs; cheap enough for every command to check."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reviewloop.local.places import HOST, STATE_FILE, StackError, existing_stack_directory
from reviewloop.local.process import Process
from reviews.durable import write_file

FORMAT = 1
KAFKA_LOG = "kafka.log"
POSTGRES_LOG = "postgres.log"
REGISTRY_LOG = "registry.log"
REGISTRY_PATH = "/apis/ccompat/v7"
"""Where the local schema registry speaks Confluent's API."""
SERVICE_FILE = "pg_service.conf"
SERVICE = "reviewloop"
"""The database's name in that file, which libpq reads: ``PGSERVICEFILE=… psql service=reviewloop``."""
POSTGRES_USER = "reviewloop"
POSTGRES_DATABASE = "reviewloop"


@dataclass(frozen=True)
class ServiceState:
    """One service of a stack.

    Attributes:
        ports: Where it listens on loopback, 0 until the first start; clients connect to the first.
        directory: Its data, relative to the stack's folder unless it had to go elsewhere.
        process: The process started last; None after a stop.
        ready: Whether that process has answered.
    """

    ports: tuple[int, ...]
    directory: str
    process: Process | None = None
    ready: bool = False

    @property
    def address(self) -> str:
        """Host and port for clients; empty before the first start."""
        return f"{HOST}:{self.ports[0]}" if self.ports[0] else ""

    @property
    def pid(self) -> int | None:
        """The id of its process while that lives."""
        return self.process.pid if self.process and self.is_alive() else None

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
        registry: It has two ports, for clients and for its own administration; None: the stack has no schema
            registry.
    """

    kafka: ServiceState
    postgres: ServiceState
    password: str = field(repr=False)
    registry: ServiceState | None = None

    def services(self) -> dict[str, ServiceState]:
        """The services of the stack, by name."""
        found = {"kafka": self.kafka, "postgres": self.postgres}
        return found if self.registry is None else {**found, "registry": self.registry}

    def service(self, name: str) -> ServiceState:
        """The service called `name`: ``kafka``, ``postgres`` or ``registry``."""
        return self.services()[name]

    def with_service(self, name: str, service: ServiceState) -> "StackState":
        """This state with another `service` under `name`."""
        changed: dict[str, Any] = {name: service}
        return dataclasses.replace(self, **changed)

    def all_ports(self) -> tuple[int, ...]:
        """Every port of the stack, chosen or still 0."""
        return tuple(port for service in self.services().values() for port in service.ports)


@dataclass(frozen=True, kw_only=True)
class ServiceStatus:
    """A service of a stack.

    Attributes:
        pid: Its process; None when it does not run.
        log: The file with its output.
        running: Whether it answered after its start and its process lives.
    """

    pid: int | None
    log: Path
    running: bool


@dataclass(frozen=True)
class KafkaStatus(ServiceStatus):
    """The broker of a stack.

    Attributes:
        bootstrap_servers: The address for clients; empty before the first start.
    """

    bootstrap_servers: str


@dataclass(frozen=True)
class PostgresStatus(ServiceStatus):
    """The database of a stack.

    Attributes:
        url: For SQLAlchemy and psycopg, password included; empty before the first start.
        service_file: How libpq's programs connect, the password included; None before the first start.
    """

    url: str = field(repr=False)
    service_file: Path | None = None

    @property
    def address(self) -> str:
        """The URL without the password, to be shown; empty before the first start."""
        place = self.url.rpartition("@")[2]
        return f"postgresql://{POSTGRES_USER}@{place}" if place else ""


@dataclass(frozen=True)
class RegistryStatus(ServiceStatus):
    """The schema registry of a stack.

    Attributes:
        url: Of Confluent's API; empty before the first start.
    """

    url: str


@dataclass(frozen=True)
class StackStatus:
    """The services of the stack in one folder.

    Attributes:
        directory: That folder.
        kafka: The broker.
        postgres: The database.
        registry: The schema registry; None: the stack has none.
    """

    directory: Path
    kafka: KafkaStatus
    postgres: PostgresStatus
    registry: RegistryStatus | None = None

    @property
    def running(self) -> bool:
        """Whether all services run."""
        return self.kafka.running and self.postgres.running and (not self.registry or self.registry.running)


def find_running(start: Path | None = None) -> StackStatus | None:
    """The stack of the current folder or of the nearest parent that has one, when any of its services runs.

    Looks at one small file and at the processes that it names, nothing else.

    Args:
        start: Where to look first; the current folder by default.
    """
    try:
        directory = existing_stack_directory((start or Path.cwd()).resolve())
        status = read_status(directory) if directory else None
    except (OSError, StackError):  # a folder that is gone, or a state that only `local` commands can repair
        return None
    return status if status and (status.kafka.running or status.postgres.running) else None


def read_status(directory: Path) -> StackStatus:
    """What runs of the stack in `directory`, started or not.

    Raises:
        StackError: Its state file cannot be understood.
    """
    state = read_state(directory) or StackState(ServiceState((0, 0), ""), ServiceState((0,), ""), "")
    kafka, postgres, service_file = state.kafka, state.postgres, directory / SERVICE_FILE
    login = f"{POSTGRES_USER}:{state.password}"
    return StackStatus(
        directory,
        KafkaStatus(kafka.address, **_process_of(kafka, directory / KAFKA_LOG)),
        PostgresStatus(
            postgres.address and f"postgresql+psycopg://{login}@{postgres.address}/{POSTGRES_DATABASE}",
            service_file if service_file.exists() else None,
            **_process_of(postgres, directory / POSTGRES_LOG),
        ),
        _registry_status(state.registry, directory),
    )


def _registry_status(state: ServiceState | None, directory: Path) -> RegistryStatus | None:
    if state is None:
        return None
    url = f"http://{state.address}{REGISTRY_PATH}" if state.address else ""
    return RegistryStatus(url, **_process_of(state, directory / REGISTRY_LOG))


def _process_of(service: ServiceState, log: Path) -> dict[str, Any]:
    return {"pid": service.pid, "log": log, "running": service.is_running()}


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
        registry = content.get("registry")
        return StackState(
            _service(content["kafka"]),
            _service(content["postgres"]),
            str(content["password"]),
            _service(registry) if registry else None,
        )
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
    content = json.dumps({"format": FORMAT, **dataclasses.asdict(state)}, indent=2)
    write_file(directory / STATE_FILE, content.encode(), secret=True)


def write_service_file(directory: Path, state: StackState) -> None:
    """Replace the file by which libpq's programs connect, readable by its owner alone."""
    host, _, port = state.postgres.address.partition(":")
    values = {"host": host, "port": port, "dbname": POSTGRES_DATABASE, "user": POSTGRES_USER}
    lines = [f"{name}={value}" for name, value in {**values, "password": state.password}.items()]
    write_file(directory / SERVICE_FILE, "\n".join([f"[{SERVICE}]", *lines, ""]).encode(), secret=True)


def _service(content: dict[str, Any]) -> ServiceState:
    process = content["process"]
    return ServiceState(
        ports=tuple(int(port) for port in content["ports"]),
        directory=str(content["directory"]),
        process=Process(int(process["pid"]), str(process["started"])) if process else None,
        ready=bool(content["ready"]),
    )
