"""A PostgreSQL with a standby that follows it: the primary can be killed, and the standby promoted."""

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import URL, make_url

from reviewloop.local.places import HOST, free_port
from reviewloop.local.postgres import packaged_installations
from reviewloop.local.process import can_enter, give, run_as, service_account
from reviewloop.local.state import POSTGRES_USER

_PATIENCE_SECONDS = 120.0
_SETTINGS = {"listen_addresses": HOST, "unix_socket_directories": "", "hot_standby": "on", "fsync": "off"}


class Pair:
    """Two servers made of the local stack's own programs; replication is asynchronous.

    Attributes:
        primary: The URL of the database that takes writes at first.
        standby: The URL of the same database on the server that follows.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="reviewloop-standby-"))
        self._folder.chmod(0o755)  # as root, PostgreSQL runs as another user who has to get in
        self._account = service_account()
        give(self._account, self._folder)
        self._programs = self._install()
        self._password = secrets.token_hex(8)
        self._servers: dict[str, subprocess.Popen[bytes]] = {}
        self.primary = self._make_primary()
        self.standby = self._make_standby()

    @property
    def both(self) -> str:
        """A URL that names both servers, as libpq writes it."""
        first, second = make_url(self.primary), make_url(self.standby)
        return (
            f"postgresql://{POSTGRES_USER}:{self._password}@{HOST}:{first.port},{HOST}:{second.port}/postgres"
        )

    def kill_primary(self) -> None:
        """SIGKILL to the postmaster; its children end when they notice."""
        server = self._servers.pop("primary")
        server.kill()
        server.wait()

    def cut_replication(self) -> None:
        """From here on the standby gets nothing of what the primary commits."""
        with psycopg.connect(self.standby, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET primary_conninfo = ''")
            connection.execute("SELECT pg_reload_conf()")
        self._wait(self.primary, "SELECT count(*) = 0 FROM pg_stat_replication")

    def wait_for_standby(self) -> None:
        """Wait until the standby has everything that the primary committed."""
        self._wait(
            self.primary, "SELECT bool_and(replay_lsn = pg_current_wal_lsn()) FROM pg_stat_replication"
        )

    def promote(self) -> None:
        """Let the standby take writes."""
        self._run("pg_ctl", "promote", "-w", "-D", str(self._folder / "standby"))

    def close(self) -> None:
        for server in self._servers.values():
            server.kill()
            server.wait()
        time.sleep(0.1)  # the children of a killed server notice, and write no more
        shutil.rmtree(self._folder, ignore_errors=True)

    def _install(self) -> Path:
        """The package's programs, copied where an unprivileged account can run them."""
        installations = packaged_installations()
        package = installations[max(installations)]
        if self._account is None or can_enter(self._account, package / "bin"):
            return package
        libraries = package.parent.with_name(package.parent.name + ".libs")
        if libraries.exists():
            shutil.copytree(libraries, self._folder / libraries.name)
        copied = self._folder / package.parent.name / package.name
        shutil.copytree(package, copied, symlinks=True, ignore=shutil.ignore_patterns("include"))
        return copied

    def _make_primary(self) -> str:
        secret = self._folder / "password"
        secret.write_text(self._password)
        give(self._account, secret)
        self._run(
            "initdb", "-D", str(self._folder / "primary"), "-U", POSTGRES_USER, "-A", "scram-sha-256",
            "--pwfile", str(secret), "-E", "UTF8", "--locale", "C", "--no-sync",
        )  # fmt: skip
        return self._start("primary")

    def _make_standby(self) -> str:
        port = make_url(self.primary).port
        self._run(
            "pg_basebackup", "-R", "-D", str(self._folder / "standby"), "-h", HOST, "-p", str(port),
            "-U", POSTGRES_USER, "-X", "stream", "-c", "fast", "--no-sync",
        )  # fmt: skip
        url = self._start("standby")
        self._wait(self.primary, "SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming'")
        return url

    def _start(self, name: str) -> str:
        port = free_port()
        options = [f"--{key}={value}" for key, value in _SETTINGS.items()]
        with (self._folder / f"{name}.log").open("wb") as log:
            self._servers[name] = subprocess.Popen(
                [
                    str(self._programs / "bin" / "postgres"),
                    "-D",
                    str(self._folder / name),
                    "-p",
                    str(port),
                    *options,
                ],
                cwd=self._folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                **self._surroundings(),
            )
        url = URL.create("postgresql", POSTGRES_USER, self._password, HOST, port, "postgres")
        text = url.render_as_string(hide_password=False)
        self._wait(text, "SELECT true")
        return text

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._programs / "bin" / program), *arguments],
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
            **self._surroundings(),
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _surroundings(self) -> dict[str, Any]:
        environment = {"PATH": os.environ["PATH"], "PGPASSWORD": self._password, "HOME": str(self._folder)}
        return {"env": environment, **run_as(self._account)}

    def _wait(self, url: str, question: str) -> None:
        """Wait until the server says yes."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url) as connection:
                if connection.execute(question).fetchone() == (True,):  # type: ignore[arg-type]
                    return
            assert time.monotonic() < deadline, f"never: {question}"
            time.sleep(0.05)
