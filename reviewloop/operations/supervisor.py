"""Supervises child processes: restarts those that die, and gives up when one keeps dying."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from classifier.devices import count_cuda_devices
from classifier.settings import ClassifierSettings
from reviewloop.local.process import open_log, rotate
from reviewloop.operations.logs import last_entries
from reviewloop.settings import SUPERVISOR_VARIABLE, WORKER_VARIABLE
from reviews.errors import ReviewLoopError, WrongUse, describe_exit
from reviews.retry import backoff_seconds

log = structlog.get_logger()

_DEVICE_VARIABLE = "REVIEWLOOP_CLASSIFIER__DEVICE"
_CHECK_SECONDS = 0.1
_LOOK_SECONDS = 1.0
_STOP_CHECK_SECONDS = 0.05
_MOST_DEATHS = 5
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 60.0
_STEADY_SECONDS = 600.0
_WRONG_USE = 2
_TOLD_TO_STOP = frozenset({0, -signal.SIGTERM, -signal.SIGINT})  # a signal may come before its handler is set


@dataclass(frozen=True, slots=True)
class Child:
    """A process that a supervisor looks after.

    Attributes:
        name: What logs and errors call it, such as ``worker 2``.
        command: Its command line.
        environment: Variables that differ from this process's.
        is_endless: Whether it should run until it is told to stop: it is started again whatever its exit
            code. Other children may end with exit code 0, and are done then.
        is_silent: Whether its standard output is dropped; standard error goes where ours goes.
        log: The file that both of its outputs are appended to. Such a child has a process group of its own:
            a terminal's Ctrl-C reaches the supervisor alone, and what the child started dies with it.
        may_start: Asked before each start; it waits as long as the answer is no.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    is_endless: bool = False
    is_silent: bool = False
    log: Path | None = None
    may_start: Callable[[], bool] = lambda: True


class Notices:
    """Told what becomes of the children; this one writes events to the log."""

    def started(self, child: Child, pid: int) -> None:
        """A process was started."""
        log.info("process_started", process=child.name, pid=pid)

    def died(self, child: Child, cause: str, deaths: int, pause: float) -> None:
        """A process ended that should have gone on; it is started again after a pause in seconds."""
        log.error(
            "process_died",
            process=child.name,
            cause=cause,
            deaths_in_a_row=deaths,
            restart_in_seconds=pause,
        )

    def stopping(self) -> None:
        """All processes are told to stop now."""

    def killed(self, child: Child) -> None:
        """A process was told to stop and did not end in time."""
        log.error("process_killed", process=child.name, detail="It did not end in time.")

    def ended(self, child: Child) -> None:
        """A process ended in an orderly way: all was done, or it was told to stop."""


def backoff() -> Iterator[float]:
    """The seconds before each new start of a child that keeps dying."""
    return backoff_seconds(_LONGEST_PAUSE_SECONDS, first=_FIRST_PAUSE_SECONDS)


class Supervisor:
    """Starts children, starts again those that die, and stops all of them together.

    It gives up when one child dies several times in a row, so that the supervisor of this process (systemd,
    Docker, a person) hears of it, and at once when a child refuses its settings (exit code 2).

    Args:
        children: What to run.
        stopping: Set from outside, for example by a signal handler: all of them are ended with SIGTERM.
        stop_seconds: How long a child may take to end before it is killed.
        most_deaths: How many deaths in a row are too many.
        steady_seconds: A child that ran for so long has recovered: its deaths are counted anew.
        pauses: The seconds before each start after a death.
        look: Called about once a second while children run, to show progress for one.
        at_once: Set from outside: what still runs is killed, however much time it had left.
        notices: Told what becomes of the children.
    """

    def __init__(
        self,
        children: Sequence[Child],
        stopping: threading.Event,
        *,
        stop_seconds: float,
        most_deaths: int = _MOST_DEATHS,
        steady_seconds: float = _STEADY_SECONDS,
        pauses: Callable[[], Iterator[float]] = backoff,
        look: Callable[[], None] = lambda: None,
        at_once: threading.Event | None = None,
        notices: Notices | None = None,
    ) -> None:
        self._notices = notices or Notices()
        self._lives = [_Life(child, pauses) for child in children]
        self._at_once = at_once or threading.Event()
        self._stopping = stopping
        self._stop_seconds = stop_seconds
        self._most_deaths = most_deaths
        self._steady_seconds = steady_seconds
        self._look = look
        self._looked_at = 0.0

    def run(self) -> None:
        """Run the children until all of them are done, or all have stopped because they were told to.

        Raises:
            WrongUse: If a child refused its settings.
            ReviewLoopError: If a child died too often, or did not end in an orderly way.
        """
        try:
            while not self._stopping.is_set() and not all(life.is_done for life in self._lives):
                for life in self._lives:
                    self._check(life)
                if time.monotonic() - self._looked_at >= _LOOK_SECONDS:
                    self._look()
                    self._looked_at = time.monotonic()
                self._stopping.wait(_CHECK_SECONDS)
        finally:
            causes = self._stop()
        if causes:
            raise ReviewLoopError(f"Not every process ended in an orderly way: {'; '.join(causes)}.")

    def _check(self, life: "_Life") -> None:
        """Start a child when its time has come; take note of its end."""
        if life.is_done:
            return
        now = time.monotonic()
        if life.process is None:
            if now >= life.start_at and life.child.may_start():
                self._start(life, now)
            return
        code = life.process.poll()
        if code is None:
            return
        life.process = None
        if code == _WRONG_USE:
            raise WrongUse(f"The {life.child.name} refused its settings; {_its_error(life.child)}")
        if code == 0 and not life.child.is_endless:
            life.is_done = True
            self._notices.ended(life.child)
        else:
            self._note_death(life, describe_exit(code), now)

    def _start(self, life: "_Life", now: float) -> None:
        try:
            self._notices.started(life.child, life.start(now))
        except OSError as err:  # no memory or process left; a later attempt may succeed
            self._note_death(life, f"a failed start ({err.strerror or err})", now)

    def _note_death(self, life: "_Life", cause: str, now: float) -> None:
        name = life.child.name
        if now - life.started_at >= self._steady_seconds:
            life.recover()
        life.deaths += 1
        if life.deaths >= self._most_deaths:
            raise ReviewLoopError(
                f"The {name} died {life.deaths} times in a row, at last by {cause}: all processes were "
                f"stopped; {_its_error(life.child)}"
            )
        pause = next(life.pauses)
        life.start_at = now + pause
        self._notices.died(life.child, cause, life.deaths, pause)

    def _stop(self) -> list[str]:
        """Stop the children that run; how each ended that did not end in an orderly way."""
        running = [life for life in self._lives if life.process is not None]
        self._notices.stopping()
        for life in running:
            life.send(signal.SIGTERM)
        deadline = time.monotonic() + self._stop_seconds
        causes = []
        while running:
            is_late = time.monotonic() >= deadline or self._at_once.is_set()
            for life in tuple(running):
                code = life.poll()
                if code is None and not is_late:
                    continue
                running.remove(life)
                code = self._kill(life) if code is None else code
                if code in _TOLD_TO_STOP:
                    self._notices.ended(life.child)
                else:
                    causes.append(f"{life.child.name} ended with {describe_exit(code)}")
            self._at_once.wait(_STOP_CHECK_SECONDS)
        return [] if self._at_once.is_set() else causes

    def _kill(self, life: "_Life") -> int:
        if not self._at_once.is_set():
            self._notices.killed(life.child)
        return life.kill()


def _its_error(child: Child) -> str:
    """Where a child said what was wrong, or what it said."""
    return (
        "its own error is above."
        if child.log is None
        else f"the end of {child.log}:\n{last_entries(child.log)}"
    )


class _Life:
    """One child from its first start to its last end."""

    def __init__(self, child: Child, pauses: Callable[[], Iterator[float]]) -> None:
        self.child = child
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = self.start_at = 0.0
        self.is_done = False
        self._new_pauses = pauses
        self.recover()

    def recover(self) -> None:
        """Forget the deaths so far."""
        self.deaths = 0
        self.pauses = self._new_pauses()

    def start(self, now: float) -> int:
        """Start the process; its id.

        Raises:
            OSError: If the system has no room for it.
        """
        self.started_at = now
        child, supervisor = self.child, {SUPERVISOR_VARIABLE: str(os.getpid())}
        environment = {**os.environ, **supervisor, **child.environment}
        if child.log is None:
            output = subprocess.DEVNULL if child.is_silent else None
            self.process = subprocess.Popen(child.command, env=environment, stdout=output)
            return self.process.pid
        rotate(child.log)
        with open_log(child.log) as log_file:
            self.process = subprocess.Popen(
                child.command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self.process.pid

    def send(self, number: signal.Signals) -> None:
        """Send a signal; a process that has ended gets none."""
        if self.process is not None:
            self.process.send_signal(number)

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        return 0 if self.process is None else self.process.poll()

    def kill(self) -> int:
        """End the process, and where it has a group of its own what it started; the exit code."""
        if self.process is None:
            return 0
        if self.child.log is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        return self.process.wait()


def tell_workers(settings: ClassifierSettings, workers: int) -> list[dict[str, str]]:
    """Environment variables for each of several workers on this machine; logs which worker gets which GPU."""
    told = worker_environments(settings, workers, count_cuda_devices())
    devices = [variables[_DEVICE_VARIABLE] for variables in told if _DEVICE_VARIABLE in variables]
    if devices:
        log.info("gpus_dealt_out", devices=devices)
    return told


def worker_environments(
    settings: ClassifierSettings, workers: int, cuda_devices: int
) -> list[dict[str, str]]:
    """Environment variables for each of several workers on this machine.

    Args:
        settings: The device asked for, and the threads.
        workers: How many there are.
        cuda_devices: How many GPUs there are; they are dealt out in turn.

    Returns:
        One mapping a worker: its number, its GPU where GPUs are dealt out, and its share of the processor.
    """
    told = [{WORKER_VARIABLE: str(number)} for number in range(1, workers + 1)]
    if settings.device in {"auto", "cuda"} and cuda_devices:
        for index, variables in enumerate(told):
            variables[_DEVICE_VARIABLE] = f"cuda:{index % cuda_devices}"
    if settings.threads is None and settings.device in {"auto", "cpu"}:
        threads = str(max(1, (os.cpu_count() or 1) // workers))
        for variables in told:
            variables["REVIEWLOOP_CLASSIFIER__THREADS"] = threads
    return told
