"""Child processes that outlive the command that started them, known by pid and start time."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from reviewloop.local.account import Account, run_as

POLL_SECONDS = 0.02
KILL_SECONDS = 10.0
KEPT_LOG_BYTES = 10_000_000

# The outer shell is gone at once, so that no Popen object of ours owns a process that still runs. The inner
# one stays as the service's parent and reaps it: in a container nobody else may do so, and PostgreSQL takes
# the zombie of a killed server for a running one and refuses to start.
_DETACH = """
{
    "$@" >&2 &
    echo $!
    exec >&2
    wait $!
    echo "$1 ended with status $?"
} &
"""
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


def launch(
    command: Sequence[str],
    *,
    cwd: Path,
    log: Path,
    account: Account | None = None,
    environment: Mapping[str, str] | None = None,
) -> Process | None:
    """Start `command` in a session of its own, its output appended to `log`.

    Args:
        command: The program and its arguments.
        cwd: Its working directory, which `account` must be able to enter.
        log: The file that receives what it prints; one that has grown large is put aside first.
        account: Whom to run it as; None is the calling user.
        environment: Variables on top of the few that services inherit.

    Returns:
        The process, or None when it was gone at once: the log says why.
    """
    _set_aside(log)
    with open_log(log) as output:
        shell = subprocess.run(
            ["/bin/sh", "-c", _DETACH, "sh", *command],
            cwd=cwd,
            env=clean_environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            start_new_session=True,
            check=True,
            **run_as(account),
        )
    pid = int(shell.stdout)
    started = _start_time(pid)
    return Process(pid, started) if started else None


def stop(process: Process, signals: Sequence[signal.Signals], *, grace_seconds: float) -> None:
    """End `process`: each of `signals` in turn with `grace_seconds` after it, then SIGKILL."""
    for number in (*signals, signal.SIGKILL):
        if not process.is_alive():
            return
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            return
        _wait_for_end(process, KILL_SECONDS if number is signal.SIGKILL else grace_seconds)


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


def _wait_for_end(process: Process, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while process.is_alive() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def _start_time(pid: int) -> str | None:
    """When the process `pid` started; None when there is none, or only a zombie."""
    return _start_time_from_proc(pid) if sys.platform == "linux" else _start_time_from_ps(pid)


def _start_time_from_proc(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None
    # The second field is the command in parentheses and may hold anything, parentheses too.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else f"{boot}/{fields[19]}"


def _start_time_from_ps(pid: int) -> str | None:
    listing = subprocess.run(
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)],
        env={"LC_ALL": "C", "TZ": "UTC"},
        capture_output=True,
        text=True,
        check=False,
    )
    state, _, started = listing.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else started.strip()
