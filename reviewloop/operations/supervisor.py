"""Supervises child processes: restarts those that die, and gives up when one keeps dying."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from classifier.devices import count_cuda_devices
from classifier.settings import ClassifierSettings
from reviewloop.settings import SUPERVISOR_VARIABLE, WORKER_VARIABLE
from reviews.errors import ReviewLoopError, WrongUse, describe_exit
from reviews.retry import backoff_seconds

log = structlog.get_logger()

_DEVICE_VARIABLE = "REVIEWLOOP_CLASSIFIER__DEVICE"
_CHECK_SECONDS = 0.1
_LOOK_SECONDS = 1.0
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
        is_silent: Whether its standard output is dropped; standard error always goes where ours goes.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    is_endless: bool = False
    is_silent: bool = False


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
    ) -> None:
        self._lives = [_Life(child, pauses) for child in children]
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
            if now >= life.start_at:
                self._start(life, now)
            return
        code = life.process.poll()
        if code is None:
            return
        life.process = None
        if code == _WRONG_USE:
            raise WrongUse(f"The {life.child.name} refused its settings; its own error is above.")
        if code == 0 and not life.child.is_endless:
            life.is_done = True
        else:
            self._note_death(life, describe_exit(code), now)

    def _start(self, life: "_Life", now: float) -> None:
        try:
            life.start(now)
        except OSError as err:  # no memory or process left; a later attempt may succeed
            self._note_death(life, f"a failed start ({err.strerror or err})", now)

    def _note_death(self, life: "_Life", cause: str, now: float) -> None:
        name = life.child.name
        if now - life.started_at >= self._steady_seconds:
            life.recover()
        life.deaths += 1
        if life.deaths >= self._most_deaths:
            raise ReviewLoopError(
                f"The {name} died {life.deaths} times in a row, at last by {cause}: its log above says why. "
                "All processes were stopped."
            )
        pause = next(life.pauses)
        life.start_at = now + pause
        log.error(
            "process_died", process=name, cause=cause, deaths_in_a_row=life.deaths, restart_in_seconds=pause
        )

    def _stop(self) -> list[str]:
        """Stop the children that run; how each ended that did not end in an orderly way."""
        running = [life for life in self._lives if life.process is not None]
        for life in running:
            life.send(signal.SIGTERM)
        deadline = time.monotonic() + self._stop_seconds
        causes = []
        for life in running:
            code = life.wait(deadline)
            if code not in _TOLD_TO_STOP:
                causes.append(f"{life.child.name} ended with {describe_exit(code)}")
        return causes


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

    def start(self, now: float) -> None:
        """Start the process.

        Raises:
            OSError: If the system has no room for it.
        """
        self.started_at = now
        output = subprocess.DEVNULL if self.child.is_silent else None
        supervisor = {SUPERVISOR_VARIABLE: str(os.getpid())}
        environment = {**os.environ, **supervisor, **self.child.environment}
        self.process = subprocess.Popen(self.child.command, env=environment, stdout=output)
        log.info("process_started", process=self.child.name, pid=self.process.pid)

    def send(self, number: signal.Signals) -> None:
        """Send a signal; a process that has ended gets none."""
        if self.process is not None:
            self.process.send_signal(number)

    def wait(self, deadline: float) -> int:
        """The exit code; the process is killed where it takes longer than the deadline."""
        if self.process is None:
            return 0
        try:
            return self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.error("process_killed", process=self.child.name, detail="It did not end in time.")  # noqa: TRY400  no traceback tells more
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
