"""Signals of this process, and the life of its children."""

import signal
import subprocess
import threading
from collections.abc import Sequence

_CHECK_SECONDS = 0.2


def watch(processes: Sequence["subprocess.Popen[bytes]"], stopping: threading.Event) -> None:
    """Wait until all have ended; they are told to when this process is, or when one of them fails."""
    while any(process.poll() is None for process in processes):
        has_failed = any(process.returncode for process in processes)
        if stopping.wait(_CHECK_SECONDS) or has_failed:
            for process in processes:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
            for process in processes:
                process.wait()


class on_signals:  # noqa: N801  reads as a phrase in its with statement
    """Set an event on SIGTERM and SIGINT; the handlers before are put back."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._before: dict[int, object] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, lambda *_: self._stopping.set())

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() itself returned
