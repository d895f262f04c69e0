"""Whether a stack runs and how to reach it: light enough to be asked by every command."""

from dataclasses import dataclass, field
from pathlib import Path

from reviewloop.local.errors import StackError
from reviewloop.local.places import existing_stack_directory
from reviewloop.local.ports import HOST
from reviewloop.local.state import ServiceState, StackState, read_state

KAFKA_LOG = "kafka.log"
POSTGRES_LOG = "postgres.log"
SERVICE_FILE = "pg_service.conf"
SERVICE = "reviewloop"
"""The database's name in that file, which libpq reads: ``PGSERVICEFILE=… psql service=reviewloop``."""
POSTGRES_USER = "reviewloop"
POSTGRES_DATABASE = "reviewloop"


@dataclass(frozen=True)
class KafkaStatus:
    """The broker of a stack.

    Attributes:
        bootstrap_servers: What clients connect to; empty before the first start.
        pid: Its process; None when it does not run.
        log: The file with what it printed.
        running: Whether it answered after its start and its process lives.
    """

    bootstrap_servers: str
    pid: int | None
    log: Path
    running: bool


@dataclass(frozen=True)
class PostgresStatus:
    """The database of a stack.

    Attributes:
        url: For SQLAlchemy and psycopg, password included; empty before the first start.
        pid: Its process; None when it does not run.
        log: The file with what it printed.
        running: Whether it answered after its start and its process lives.
        service_file: How libpq's programs get in, the password included; None before the first start.
    """

    url: str = field(repr=False)
    pid: int | None
    log: Path
    running: bool
    service_file: Path | None = None

    @property
    def address(self) -> str:
        """The URL without the password, to be shown; empty before the first start."""
        place = self.url.rpartition("@")[2]
        return f"postgresql://{POSTGRES_USER}@{place}" if place else ""


@dataclass(frozen=True)
class StackStatus:
    """Both services of the stack in one folder."""

    directory: Path
    kafka: KafkaStatus
    postgres: PostgresStatus

    @property
    def running(self) -> bool:
        """Whether both services run."""
        return self.kafka.running and self.postgres.running


def find_running(start: Path | None = None) -> StackStatus | None:
    """The stack of the current folder or of the nearest parent that has one, when any of its services runs.

    Looks at one small file and at the processes that it names, nothing else.

    Args:
        start: Where to look first; the current folder by default.
    """
    try:
        directory = existing_stack_directory((start or Path.cwd()).resolve())
        status = read_status(directory) if directory else None
    except (OSError, StackError):  # a folder that is gone, or a state that only `local` commands can mend
        return None
    return status if status and (status.kafka.running or status.postgres.running) else None


def read_status(directory: Path) -> StackStatus:
    """The state of the stack in `directory`, started or not.

    Raises:
        StackError: Its state file cannot be understood.
    """
    return status_of(directory, read_state(directory))


def status_of(directory: Path, state: StackState | None) -> StackStatus:
    """What `state` says, checked against the processes that run."""
    kafka_log, postgres_log = directory / KAFKA_LOG, directory / POSTGRES_LOG
    if state is None:
        return StackStatus(
            directory,
            KafkaStatus("", None, kafka_log, running=False),
            PostgresStatus("", None, postgres_log, running=False),
        )
    return StackStatus(
        directory,
        KafkaStatus(_address(state.kafka), _pid(state.kafka), kafka_log, state.kafka.is_running()),
        PostgresStatus(
            _url(state), _pid(state.postgres), postgres_log, state.postgres.is_running(), _existing(directory)
        ),
    )


def service_entry(state: StackState) -> str:
    """The content of the service file."""
    host, _, port = _address(state.postgres).partition(":")
    values = {"host": host, "port": port, "dbname": POSTGRES_DATABASE, "user": POSTGRES_USER}
    lines = [f"{name}={value}" for name, value in {**values, "password": state.password}.items()]
    return "\n".join([f"[{SERVICE}]", *lines, ""])


def _existing(directory: Path) -> Path | None:
    file = directory / SERVICE_FILE
    return file if file.exists() else None


def _url(state: StackState) -> str:
    address = _address(state.postgres)
    login = f"{POSTGRES_USER}:{state.password}"
    return f"postgresql+psycopg://{login}@{address}/{POSTGRES_DATABASE}" if address else ""


def _address(service: ServiceState) -> str:
    port = service.ports[0]
    return f"{HOST}:{port}" if port else ""  # 0 until the first launch chooses


def _pid(service: ServiceState) -> int | None:
    return service.process.pid if service.process and service.is_alive() else None
