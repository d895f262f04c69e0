"""When this process has to end: signals, and the end of the supervisor that started it."""

import os
import signal
import threading

import structlog

from reviewloop.settings import SUPERVISOR_VARIABLE

_LOOK_SECONDS = 1.0


class on_signals:  # noqa: N801  reads as a phrase in its with statement
    """Set an event on SIGTERM and SIGINT; the handlers before are put back.

    A child of a supervisor is also told when the supervisor is gone, killed for one: nobody would start the
    child again or stop it, and the next supervisor would start another one beside it.
    """

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._before: dict[int, object] = {}
        self._left = threading.Event()

    def __enter__(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, lambda *_: self._stopping.set())
        # Children of a supervised process inherit the variable, but have another parent.
        if os.environ.get(SUPERVISOR_VARIABLE) == str(os.getppid()):
            threading.Thread(
                target=self._follow, args=(os.getppid(),), name="supervisor", daemon=True
            ).start()

    def __exit__(self, *_: object) -> None:
        self._left.set()
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() itself returned

    def _follow(self, supervisor: int) -> None:
        while not self._left.wait(_LOOK_SECONDS):
            if os.getppid() != supervisor:
                structlog.get_logger().error("supervisor_gone", pid=supervisor, detail="Ending in order.")
                self._stopping.set()
                return
