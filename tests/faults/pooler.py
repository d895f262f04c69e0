"""A real PgBouncer between the program and its database."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Literal

import psycopg
import pytest
from sqlalchemy import make_url

from reviewloop.local.places import HOST, free_port
from reviewloop.local.process import give, run_as, service_account

PoolMode = Literal["session", "transaction", "statement"]
_PATIENCE_SECONDS = 60.0
_CONFIGURATION = """
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = {listen}
listen_port = {listen_port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users
pool_mode = {mode}
default_pool_size = {sessions}
"""


class PgBouncer:
    """A pooler in front of a database server.

    Args:
        url: The SQLAlchemy URL of a database.
        mode: How long a client keeps a session of the server.
        sessions: How many of them all clients share.
    """

    def __init__(self, url: str, mode: PoolMode, sessions: int = 20) -> None:
        self._target = make_url(url)
        self._port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="reviewloop-pgbouncer-"))
        account = service_account()  # it refuses root
        files = {
            "users": f'"{self._target.username}" "{self._target.password}"\n',
            "ini": _CONFIGURATION.format(
                host=self._target.host, port=self._target.port, listen=HOST, listen_port=self._port,
                folder=self._folder, mode=mode, sessions=sessions,
            ),
        }  # fmt: skip
        for name, content in files.items():
            (self._folder / name).write_text(content)
        give(account, self._folder, *(self._folder / name for name in files))
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [_program(), str(self._folder / "ini")],
                cwd=self._folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                **run_as(account),
            )
        self._wait()

    @property
    def url(self) -> str:
        """The database as seen through the pooler."""
        return self._target.set(host=HOST, port=self._port).render_as_string(hide_password=False)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder)

    def _wait(self) -> None:
        address = make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                psycopg.connect(address, autocommit=True).close()
            except psycopg.OperationalError as err:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError((self._folder / "log").read_text()) from err
                time.sleep(0.05)
            else:
                return


def _program() -> str:
    """Where PgBouncer is; where it is not installed, tests fail in CI and are skipped elsewhere."""
    found = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if found is not None:
        return found
    if os.environ.get("CI") == "true":
        pytest.fail("PgBouncer is not installed: it is the package pgbouncer of Debian.", pytrace=False)
    pytest.skip("PgBouncer is not installed")
