"""A console over a database of many reviews, which is made once and kept in a folder."""

import argparse
import secrets
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import SecretStr
from sqlalchemy import make_url

from benchmarks.console_data import Filler, bundled_samples, fill_console
from benchmarks.services import connect
from benchmarks.stream import open_database
from reviewloop.local.stack import Stack
from storage.database import Database
from storage.migrate import upgrade
from storage.roles import CONSOLE_GRANTS, DatabaseRole, set_up_roles
from storage.settings import DatabaseSettings
from tests.console_process import ConsoleProcess

REVIEWS = 1_000_000
_DATABASE = "console"
_ROLE, _PASSWORD = "reviewloop_console", secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class ConsoleState:
    """Where the services of a kept database are.

    Attributes:
        bootstrap_servers: Of Kafka.
        server: The URL of PostgreSQL, for a user who may create databases.
        url: Of the filled database.
    """

    bootstrap_servers: str
    server: str
    url: str


def parse_arguments(about: str | None) -> argparse.Namespace:
    """``--state`` and ``--reviews``, of every benchmark of the console."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument(
        "--state", type=Path, required=True, help="folder of services and database; made where it is missing"
    )
    parser.add_argument("--reviews", type=int, default=REVIEWS)
    parser.add_argument("--repetitions", type=int, default=None, help="fewer than usual, to try it")
    return parser.parse_args()


@contextmanager
def opened_state(
    folder: Path,
    reviews: int,
    days: float = 365,
    *,
    density: int = 1,
    letters: int | None = None,
    filler: Callable[..., Filler] | None = None,
) -> Iterator[ConsoleState]:
    """The kept database, filled where it is not, and its services, stopped at the end.

    The arguments behind the folder are those of :func:`benchmarks.console_data.fill_console`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)  # as root, PostgreSQL runs as another user who has to get in
    stack = Stack(folder.resolve() / ".reviewloop")

    def fill(made: str) -> None:
        samples = list(bundled_samples())
        fill_console(made, reviews, samples, days, density=density, letters=letters, filler=filler)

    try:
        status = stack.up()
        server, name = status.postgres.url, f"{_DATABASE}_{reviews}"
        url = make_url(server).set(database=name).render_as_string(hide_password=False)
        _fill_once(server, name, url, fill)
        yield ConsoleState(status.kafka.bootstrap_servers, server, url)
    finally:
        stack.down()


@contextmanager
def running_console(state: ConsoleState, url: str | None = None) -> Iterator[ConsoleProcess]:
    """``reviewloop console`` over a database, by default the kept one, under its own database role."""
    url = url or state.url
    name, password = console_role(url)
    own = make_url(url).set(username=name, password=password).render_as_string(hide_password=False)
    with TemporaryDirectory() as folder:
        console = ConsoleProcess(own, Path(folder), bootstrap_servers=state.bootstrap_servers)
        console.start()
        try:
            yield console
        finally:
            console.kill()


def console_role(url: str) -> tuple[str, str]:
    """Name and password of a database role that may do what a console needs."""
    with closing(open_database(url)) as database:
        set_up_roles(database, [DatabaseRole(_ROLE, CONSOLE_GRANTS, _PASSWORD)])
    return _ROLE, _PASSWORD


def _fill_once(server: str, name: str, url: str, fill: Callable[[str], None]) -> None:
    with connect(server) as admin:
        if admin.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).fetchone() is None:
            made = f"{name}_in_progress"
            admin.execute(f"DROP DATABASE IF EXISTS {made}")
            admin.execute(f"CREATE DATABASE {made}")
            filling = make_url(url).set(database=made).render_as_string(hide_password=False)
            fill(filling)
            admin.execute(f"ALTER DATABASE {made} RENAME TO {name}")
    with closing(open_database(url)) as database:
        upgrade(database)  # a newer version of the program may have more tables


def _open(url: str) -> Database:
    return Database(DatabaseSettings(url=SecretStr(url)))
