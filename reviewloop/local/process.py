"""Child processes that outlive the command that started them, known by pid and start time."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

import psutil

from reviewloop.local.account import Account, run_as
from reviewloop.local.errors import StackError

POLL_SECONDS = 0.02
KILL_SECONDS = 10.0
REPEAT_SECONDS = 1.0
KEPT_LOG_BYTES = 10_000_000

# The outer shell is gone at once, so that no Popen object of ours owns a process that still runs. The middle
# one stays as the service's parent and reaps it: in a container nobody else may do so, and PostgreSQL takes
# the zombie of a killed server for a running one and refuses to start. The innermost becomes the service once
# it reads that its pid was recorded; when the launcher dies before, the pipe ends and nothing was started.
# Shells give their background jobs /dev/null to read, so the pipe has to have another number.
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
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_INHERITED = ("HOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PATH", "TMPDIR")


@dataclass(frozen=True)
class Process:
    """One process for as long as it lives.

    Attributes:
        pid: Its process id.
        started: When it started, in the system's own words: a reused pid has another value.
    """

    pid: int
    started: str

    def is_alive(self) -> bool:
        """Whether this very process, not a later one of the same pid, still runs."""
        return _start_time(self.pid) == self.started


Record = Callable[[Process], object]
Say = Callable[[str], None]


def launch(
    command: Sequence[str],
    record: Callable[[Process], object],
    *,
    cwd: Path,
    log: Path,
    account: Account | None = None,
    environment: Mapping[str, str] | None = None,
) -> Process:
    """Start `command` in a session of its own, its output appended to `log`.

    No instruction of the program runs before `record` has returned: a launcher that is interrupted or killed
    leaves no process that nobody knows.

    Args:
        command: The program and its arguments.
        record: Keeps the process where a later command finds it.
        cwd: Its working directory, which `account` must be able to enter.
        log: The file that receives what it prints; one that has grown large is put aside first.
        account: Whom to run it as; None is the calling user.
        environment: Variables on top of the few that services inherit.

    Returns:
        The process; it may have ended already, and the log says why.

    Raises:
        StackError: The system could not start another process.
    """
    _set_aside(log)
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


def _recorded(shell: "subprocess.Popen[bytes]", record: Callable[[Process], object], log: Path) -> Process:
    """Let the program behind `shell` start once `record` knows it; in any other case it never does."""
    told, answers = cast("IO[bytes]", shell.stdin), cast("IO[bytes]", shell.stdout)
    try:
        pid = answers.readline()
        if not pid.endswith(b"\n"):
            raise StackError(f"No process could be started; the end of {log}:\n{last_lines(log)}")
        process = running(int(pid))
        record(process)
        with contextlib.suppress(BrokenPipeError):  # killed meanwhile, as `is_alive` will tell
            told.write(b"recorded\n")
    finally:
        told.close()
        answers.read()  # ends when the innermost shell is the program now, or is no more
    return process


def running(pid: int) -> Process:
    """The process that `pid` belongs to now; one that is not alive when there is none."""
    return Process(pid, _start_time(pid) or "gone")


def stop(process: Process, signals: Sequence[signal.Signals], *, grace_seconds: float) -> None:
    """End `process`: each of `signals` in turn with `grace_seconds` after it, then SIGKILL.

    A signal is repeated until it has its effect: a program that has just been started may not heed it yet.
    """
    for number in (*signals, signal.SIGKILL):
        deadline = time.monotonic() + (KILL_SECONDS if number is signal.SIGKILL else grace_seconds)
        while process.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)
            _wait_for_end(process, min(deadline, time.monotonic() + REPEAT_SECONDS))
            if time.monotonic() >= deadline:
                break


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What services see of the environment: no JAVA_*, PG* or REVIEWLOOP_* variable reaches them."""
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {**kept, "LC_ALL": "C", "TZ": "UTC", **(extra or {})}


def open_log(log: Path) -> BinaryIO:
    """`log`, to append to it; readable by its owner alone."""
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
    """Run `command` to its end, its output appended to `log`; whether it succeeded.

    Args:
        command: The program and its arguments.
        cwd: Its working directory, which `account` must be able to enter.
        log: The file that receives what it prints.
        account: Whom to run it as; None is the calling user.
        environment: Variables on top of the few that services inherit.
        given: What it reads from its standard input.
    """
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


def _set_aside(log: Path) -> None:
    if log.exists() and log.stat().st_size > KEPT_LOG_BYTES:
        log.replace(log.with_name(log.name + ".1"))


def _wait_for_end(process: Process, deadline: float) -> None:
    while process.is_alive() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def command_of(pid: int) -> str:
    """The program of the process `pid` and its arguments, with blanks between; empty when there is none."""
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""


def _start_time(pid: int) -> str | None:
    """When the process `pid` started; None when there is none, or only a zombie."""
    try:
        process = psutil.Process(pid)
        started = process.create_time()
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
    except psutil.Error:
        return None
    if not psutil.LINUX:
        return f"{started:.2f}"
    # psutil adds the boot time by the present clock, but what is remembered must outlive a change of the clock.
    ticks = round((started - psutil.boot_time()) * os.sysconf("SC_CLK_TCK"))
    return f"{_BOOT.read_text(encoding='ascii').strip()}/{ticks}"
