"""Long commands: signals end them in order, and their progress is shown.

On a terminal progress is a bar; elsewhere it is a line now and then, or an event in the log.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import structlog
from rich import progress
from rich.console import Console

from reviewloop.settings import SUPERVISOR_VARIABLE
from reviewloop.terminal import say
from reviews.retry import backoff_seconds

_LOOK_SECONDS = 1.0
_FIRST_LINE_SECONDS, _LONGEST_PAUSE_SECONDS = 5.0, 300.0


class on_signals:  # noqa: N801  reads as a phrase in its with statement
    """Set an event on SIGTERM and SIGINT; the handlers before are put back.

    A child of a supervisor is also told when the supervisor is gone, for example killed: nothing would
    restart or stop the child any more, and the next supervisor would start another one beside it.

    Args:
        stopping: Set by the first signal.
        at_once: Set by a second one.
        also: Further signals that mean the same.
    """

    def __init__(
        self,
        stopping: threading.Event,
        at_once: threading.Event | None = None,
        also: Sequence[signal.Signals] = (),
    ) -> None:
        self._stopping = stopping
        self._at_once = at_once
        self._numbers = (signal.SIGTERM, signal.SIGINT, *also)
        self._before: dict[int, object] = {}
        self._left = threading.Event()

    def __enter__(self) -> None:
        for number in self._numbers:
            self._before[number] = signal.signal(number, lambda *_: self._note())
        # Children of a supervised process inherit the variable, but have another parent.
        if os.environ.get(SUPERVISOR_VARIABLE) == str(os.getppid()):
            threading.Thread(
                target=self._follow, args=(os.getppid(),), name="supervisor", daemon=True
            ).start()

    def __exit__(self, *_: object) -> None:
        self._left.set()
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() itself returned

    def _note(self) -> None:
        if self._at_once is not None and self._stopping.is_set():
            self._at_once.set()
        self._stopping.set()

    def _follow(self, supervisor: int) -> None:
        while not self._left.wait(_LOOK_SECONDS):
            if os.getppid() != supervisor:
                structlog.get_logger().error("supervisor_gone", pid=supervisor, detail="Ending in order.")
                self._stopping.set()
                return


class Progress(Protocol):
    """Told how many items are done."""

    def __call__(self, done: int, /, **others: int) -> None:
        """Take note that so many items are done, and how many others there were: ``dead_letters=3``."""


@contextmanager
def show_progress(
    what: str,
    total: int | None = None,
    *,
    is_logged: bool = False,
    worker: str | None = None,
    is_silent: bool = False,
) -> Iterator[Progress]:
    """Show the progress of one long step on standard error.

    Args:
        what: What is done, such as "publishing".
        total: How many items there are, where that is known.
        is_logged: Without a bar, write events to the log, as a command does that logs everything else.
        worker: Which of several workers this process is: they draw no bars, which would overwrite each other.
        is_silent: Show nothing, as another process shows the progress of all.
    """
    if is_silent:
        yield lambda _done, /, **_: None
    elif sys.stderr.isatty() and worker is None:
        with _bar(what, total) as update:
            yield update
    else:
        yield _Lines(what, total, _logged if is_logged else _written)


@contextmanager
def _bar(what: str, total: int | None) -> Iterator[Progress]:
    columns = (
        progress.SpinnerColumn(),
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TextColumn("{task.completed:,.0f}{task.fields[others]}"),
        progress.TimeElapsedColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task(what, total=total, others="")
        yield lambda done, /, **others: shown.update(task, completed=done, others=_in_brackets(others))


class _Lines:
    """A line when it starts, and further ones ever more rarely.

    Args:
        what: What is done.
        total: How many items there are.
        tell: Writes one line: what is done, items done, items in all, others, seconds since the start.
    """

    def __init__(
        self,
        what: str,
        total: int | None,
        tell: Callable[[str, int, int | None, dict[str, int], float], None],
    ) -> None:
        self._what = what
        self._total = total
        self._tell = tell
        self._pauses = backoff_seconds(_LONGEST_PAUSE_SECONDS, first=_FIRST_LINE_SECONDS)
        self._started = time.monotonic()
        self._next = self._started + next(self._pauses)
        tell(what, 0, total, {}, 0.0)

    def __call__(self, done: int, /, **others: int) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + next(self._pauses)
            self._tell(self._what, done, self._total, others, now - self._started)


def _written(what: str, done: int, total: int | None, others: dict[str, int], seconds: float) -> None:
    of = f" of {total:,}" if total else ""
    said = f"{what}: {done:,}{of}{_in_brackets(others)} after {seconds:.0f} s" if seconds else f"{what} …"
    say(said, err=True)


def _logged(what: str, done: int, total: int | None, others: dict[str, int], seconds: float) -> None:
    known = {} if total is None else {"total": total}
    log = structlog.get_logger()
    log.info("progress", step=what, done=done, **known, **others, seconds=round(seconds, 1))


def _in_brackets(others: dict[str, int]) -> str:
    said = ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in others.items() if number)
    return f" ({said})" if said else ""
