"""Signals of this process."""

import signal
import threading


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
