"""A worker under test as a child process: started, held, frozen, killed."""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.faults.worker import run

PATIENCE_SECONDS = 180.0
Target = Callable[[dict[str, Any], Path, Connection], None]

# Forked from a process that has everything imported but nothing started: a tenth of the time of a new one.
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.faults.worker", "tests.faults.trainer"])


class WorkerProcess:
    """One `tests.faults.worker`, or one `tests.faults.trainer`.

    Args:
        request: What it is told: settings, stops, score_seconds.
        log: Where its log goes.
        target: What it does.
    """

    def __init__(self, request: dict[str, Any], log: Path, target: Target = run) -> None:
        self.log = log
        self.expected_end = False  # set by whoever ends it
        self._channel, theirs = _SERVER.Pipe()
        self._process = _SERVER.Process(target=target, args=(request, log, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def wait_for(self, line: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until the worker says this; it has to be the next thing that it says.

        Raises:
            AssertionError: If it does not, with the end of its log.
        """
        try:
            said = self._channel.recv() if self._channel.poll(seconds) else "nothing"
        except EOFError:
            said = "that it ended"
        assert said == line, f"the worker said {said}, not {line!r}: {self.log_text()[-3000:]}"

    def go_on(self) -> None:
        """Let it leave the stop point that it is held at."""
        self._channel.send("go on")

    def kill(self) -> None:
        """SIGKILL, also while it is frozen."""
        self.expected_end = True
        self._process.kill()
        self._process.join()
        self._channel.close()

    def freeze(self) -> None:
        """SIGSTOP: every thread, in the middle of whatever it does."""
        self._signal(signal.SIGSTOP)

    def peak_megabytes(self) -> float:
        """The most memory that it had so far."""
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii", errors="replace")
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024

    def explain(self) -> str:
        """The end of its log, with the stacks of its threads."""
        if self.is_alive():
            os.kill(self._process.pid, signal.SIGUSR1)
            time.sleep(0.2)
        return self.log_text()[-6000:]

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self.is_alive():
            os.kill(self._process.pid, number)

    def ask_to_stop(self) -> None:
        """SIGTERM, without waiting."""
        self.expected_end = True
        self._process.terminate()

    def stop(self, seconds: float = PATIENCE_SECONDS) -> int:
        """SIGTERM and wait; the exit code."""
        self._process.terminate()
        return self.wait(seconds)

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Wait for the end; the exit code."""
        self.expected_end = True
        self._process.join(seconds)
        assert self._process.exitcode is not None, f"the worker does not end: {self.log_text()[-3000:]}"
        return self._process.exitcode

    def is_alive(self) -> bool:
        return self._process.is_alive()

    def log_text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log's entries of that name."""
        entries = []
        for line in self.log_text().splitlines():
            if line.startswith("{"):
                entry = json.loads(line)
                if entry.get("event") == name:
                    entries.append(entry)
        return entries

    def wait_for_event(self, name: str, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """The first entry of that name, as soon as there is one."""
        deadline = time.monotonic() + seconds
        while not (found := self.events(name)):
            assert time.monotonic() < deadline, f"no {name} in the log: {self.log_text()[-3000:]}"
            assert self.is_alive(), f"the worker ended: {self.log_text()[-3000:]}"
            time.sleep(0.05)
        return found[0]
