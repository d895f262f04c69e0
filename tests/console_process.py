"""A console as a process of its own, with queued reviews and annotators who are logged in."""

import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from pydantic import SecretStr

from console.access import _csrf_token
from reviews.account import Role
from storage.accounts.sessions import SessionStore
from storage.accounts.users import UserStore
from storage.database import Database
from storage.settings import DatabaseSettings
from tests import commands
from tests.integration.system import make_environment

_PATIENCE_SECONDS = 60


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@dataclass
class LoggedIn:
    """What a browser or a program needs to be somebody.

    Attributes:
        name: Who.
        cookie: Name and value of the session's cookie.
        csrf: What goes into the header of each request that changes something.
    """

    name: str
    cookie: tuple[str, str]
    csrf: str


@dataclass
class ConsoleProcess:
    """``reviewloop console`` on one port, which can be killed and started again.

    Attributes:
        url: Of the database.
        folder: Where its log is.
        port: On which it listens.
        bootstrap_servers: Of Kafka; by default nobody answers there.
    """

    url: str
    folder: Path
    port: int = field(default_factory=free_port)
    bootstrap_servers: str = "127.0.0.1:1"
    _running: commands.Running | None = None

    @property
    def address(self) -> str:
        """Where browsers find it."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it; it answers when this returns."""
        environment = make_environment(
            REVIEWLOOP_DATABASE__URL=self.url,
            REVIEWLOOP_KAFKA__BOOTSTRAP_SERVERS=self.bootstrap_servers,
            REVIEWLOOP_CONSOLE__PORT=str(self.port),
        )
        with (self.folder / "console.log").open("a") as log:
            self._running = commands.start("console", env=environment, cwd=self.folder, stdout=log)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not self._answers():
            assert self._running.poll() is None, (self.folder / "console.log").read_text()
            assert time.monotonic() < deadline, (self.folder / "console.log").read_text()
            time.sleep(0.05)

    def kill(self) -> None:
        """End it as a power cut does."""
        if self._running is not None:
            self._running.send_signal(signal.SIGKILL)
            self._running.wait()
            self._running = None

    def log_in(self, name: str, role: Role = Role.ANNOTATOR) -> LoggedIn:
        """A session of a user, who is made."""
        database = Database(DatabaseSettings(url=SecretStr(self.url)))
        try:
            users = UserStore(database)
            found = users.find(name)
            user = found[0] if found else users.add(name, role, "the tests")
            secret = SessionStore(database).begin(user, "password", timedelta(hours=1))
        finally:
            database.close()
        return LoggedIn(name, (f"reviewloop_session_{self.port}", secret), _csrf_token(secret))

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5):
                return True
        except OSError:
            return False


@contextmanager
def console_process(url: str, folder: Path) -> Iterator[ConsoleProcess]:
    """A started console over a migrated database."""
    console = ConsoleProcess(url, folder)
    console.start()
    try:
        yield console
    finally:
        console.kill()
