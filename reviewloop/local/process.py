"""Processes that outlive the command that started them, identified by pid and start time."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import psutil

from reviewloop.local.places import StackError

POLL_SECONDS = 0.02
KILL_SECONDS = 10.0
REPEAT_SECONDS = 1.0
KEPT_LOG_BYTES = 10_000_000

# The outer shell ends at once, so that no Popen object owns a process that still runs. The middle one stays
# as the service's parent and reaps it: in a container there may be no other process to do so, and PostgreSQL
# takes the zombie of a killed server for a running one and refuses to start. The innermost becomes the
# service once it reads that its pid was recorded; when the launcher dies before, the pipe ends and nothing is
# started. Shells give their background jobs /dev/null as input, so the pipe needs another number.
_DETACH = """
exec 3<&0
{
    { read -r recorded <&3 && exec >&2 3<&- && exec "$@"; } &
    echo $!
    exec >&2 3<&-
    wait $!
    echo "$1 ended with status $?"
} &
"""
UNPRIVILEGED_USER = "nobody"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_INHERITED = ("HOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PATH", "TMPDIR")


@dataclass(frozen=True)
class Process:
    """One process for as long as it lives.

    Attributes:
        pid: Its process id.
        started: When it started, as text of the system: a reused pid has another value.
    """

    pid: int
    started: str

    def is_alive(self) -> bool:
        """Whether this very process, not a later one of the same pid, still runs."""
        return _start_time(self.pid) == self.started


Record = Callable[[Process], object]
"""Keeps a process where a later command finds it."""
Say = Callable[[str], None]
"""Told in a sentence what a longer step does."""


@dataclass(frozen=True)
class Account:
    """A user that processes can be started as."""

    uid: int
    gid: int


def launch(
    command: Sequence[str],
    record: Record,
    *,
    cwd: Path,
    log: Path,
    account: Account | None = None,
    environment: Mapping[str, str] | None = None,
) -> Process:
    """Start `command` in a session of its own, its output appended to `log`.

    No instruction of the program runs before `record` has returned: a launcher that is interrupted or killed
    leaves no unknown process behind.

    Args:
        command: The program and its arguments.
        record: Called with the process before its program begins.
        cwd: Its working directory, which `account` must be able to enter.
        log: The file for its output; a file that has grown large is renamed first.
        account: The user to run it as; None is the calling user.
        environment: Variables on top of the few that services inherit.

    Returns:
        The process; it may have ended already, and the log says why.

    Raises:
        StackError: The system could not start another process.
    """
    rotate(log)
    with (
        open_log(log) as output,
        subprocess.Popen(
            ["/bin/sh", "-c", _DETACH, "sh", *command],
            bufsize=0,
            cwd=cwd,
            env=clean_environment(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            start_new_session=True,
            **run_as(account),
        ) as shell,
    ):
        return _recorded(shell, record, log)


def _recorded(shell: "subprocess.Popen[bytes]", record: Record, log: Path) -> Process:
    """Let the program behind `shell` start once `record` knows it; in any other case it never does."""
    instructions, answers = cast("IO[bytes]", shell.stdin), cast("IO[bytes]", shell.stdout)
    try:
        pid = answers.readline()
        if not pid.endswith(b"\n"):
            raise StackError(f"No process could be started; the end of {log}:\n{last_lines(log)}")
        process = running(int(pid))
        record(process)
        with contextlib.suppress(BrokenPipeError):  # killed meanwhile, as `is_alive` will say
            instructions.write(b"recorded\n")
    finally:
        instructions.close()
        answers.read()  # ends when the innermost shell has become the program, or has ended
    return process


def running(pid: int) -> Process:
    """The process that has the `pid` now; without one, a process that is not alive."""
    return Process(pid, _start_time(pid) or "gone")


def stop(process: Process, signals: Sequence[signal.Signals], *, grace_seconds: float) -> None:
    """End `process`: each of `signals` in turn with `grace_seconds` after it, then SIGKILL.

    A signal is repeated until it takes effect: a program that has just started may not handle it yet.
    """
    for number in (*signals, signal.SIGKILL):
        deadline = time.monotonic() + (KILL_SECONDS if number is signal.SIGKILL else grace_seconds)
        while process.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)
            repeat = min(deadline, time.monotonic() + REPEAT_SECONDS)
            while process.is_alive() and time.monotonic() < repeat:
                time.sleep(POLL_SECONDS)
            if time.monotonic() >= deadline:
                break


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of services: no JAVA_*, PG* or REVIEWLOOP_* variable reaches them."""
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {**kept, "LC_ALL": "C", "TZ": "UTC", **(extra or {})}


def open_log(log: Path) -> BinaryIO:
    """`log`, opened for appending; only its owner can read it."""
    return os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def run_to_end(
    command: Sequence[str],
    *,
    cwd: Path,
    log: Path,
    account: Account | None = None,
    environment: Mapping[str, str] | None = None,
    given: str = "",
) -> bool:
    """Run `command` to its end; whether it succeeded. `given` is its input, the rest is as for `launch`."""
    with open_log(log) as output:
        outcome = subprocess.run(
            command,
            cwd=cwd,
            env=clean_environment(environment),
            input=given.encode(),
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
            **run_as(account),
        )
    return outcome.returncode == 0


def last_lines(log: Path, count: int = 8) -> str:
    """The last `count` lines of `log`, indented; says so when there are none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16_384))
            lines = file.read().decode("utf-8", "replace").splitlines()[-count:]
    except OSError:
        lines = []
    return "\n".join(f"  {line}" for line in lines) or "  (the log is empty)"


def rotate(log: Path) -> None:
    """Rename `log` where it has grown large, in place of the one renamed before."""
    if log.exists() and log.stat().st_size > KEPT_LOG_BYTES:
        log.replace(log.with_name(log.name + ".1"))


def command_of(pid: int) -> str:
    """The command line of the process `pid`, joined by spaces; empty without such a process."""
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""


def _start_time(pid: int) -> str | None:
    """When the process `pid` started; None without such a process, and for a zombie."""
    try:
        process = psutil.Process(pid)
        started = process.create_time()
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
    except psutil.Error:
        return None
    if not psutil.LINUX:
        return f"{started:.2f}"
    # psutil adds the boot time by the present clock; what is remembered must outlive a change of the clock.
    ticks = round((started - psutil.boot_time()) * os.sysconf("SC_CLK_TCK"))
    return f"{_BOOT.read_text(encoding='ascii').strip()}/{ticks}"


def service_account() -> Account | None:
    """The account for services that refuse root; None when the calling user is not root.

    Raises:
        StackError: The calling user is root, and the system has no unprivileged user.
    """
    if os.geteuid() != 0:
        return None
    import pwd  # not on Windows

    try:
        entry = pwd.getpwnam(UNPRIVILEGED_USER)
    except KeyError as err:
        raise StackError(
            f"PostgreSQL refuses to run as root, and this system has no user {UNPRIVILEGED_USER!r} "
            "to run it as: start the stack as an ordinary user."
        ) from err
    return Account(entry.pw_uid, entry.pw_gid)


def require_named_user() -> None:
    """Refuse a calling user that the system has no name for.

    Raises:
        StackError: There is no name, as in a container that was started with a bare user number.
    """
    import pwd  # not on Windows

    try:
        pwd.getpwuid(os.geteuid())
    except KeyError as err:
        raise StackError(
            f"PostgreSQL needs a user with a name, and there is none for user number {os.geteuid()} here: "
            "use a named user, or add a line for it to /etc/passwd."
        ) from err


def run_as(account: Account | None) -> dict[str, Any]:
    """Arguments for `subprocess.run` that start a child as `account`; none for the calling user."""
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def can_enter(account: Account | None, folder: Path) -> bool:
    """Whether `account` may pass through `folder`, which exists; the system decides, so ACLs count."""
    probe = ["/bin/sh", "-c", 'test -x "$1"', "sh", str(folder)]
    return subprocess.run(probe, check=False, cwd="/", **run_as(account)).returncode == 0


def give(account: Account | None, *paths: Path) -> None:
    """Make `account` the owner of `paths`; without an account nothing is done.

    Raises:
        StackError: The system does not let root give files away, as in some containers.
    """
    if account is None:
        return
    for path in paths:
        try:
            os.chown(path, account.uid, account.gid)
        except OSError as err:
            raise StackError(
                f"Root may not hand {path} to the user {UNPRIVILEGED_USER!r} here ({err.strerror}): "
                "start the stack as an ordinary user."
            ) from err
