"""Progress of long commands: a bar on a terminal, a plain line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from reviewloop.visible import say

_LINE_EVERY_SECONDS = 5.0


class Progress(Protocol):
    """Told how many items are done."""

    def __call__(self, done: int, note: str = "", /) -> None:
        """Take note that so many items are done, and of what else there is to say."""


@contextmanager
def show_progress(
    what: str, total: int | None = None, *, worker: str | None = None, is_silent: bool = False
) -> Iterator[Progress]:
    """Show the progress of one long step on standard error.

    Args:
        what: What is done, such as "publishing".
        total: How many items there are, where that is known.
        worker: Which of several workers this process is: they write lines, as two bars would overwrite each
            other.
        is_silent: Show nothing, as another process shows the progress of all.
    """
    if is_silent:
        yield lambda _done, _note="": None
    elif worker is not None:
        yield _Lines(f"worker {worker}: {what}", total)
    elif sys.stderr.isatty():
        with _bar(what, total) as update:
            yield update
    else:
        yield _Lines(what, total)


@contextmanager
def _bar(what: str, total: int | None) -> Iterator[Progress]:
    from rich import progress
    from rich.console import Console

    columns = (
        progress.SpinnerColumn(),
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TextColumn("{task.completed:,.0f}{task.fields[note]}"),
        progress.TimeElapsedColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task(what, total=total, note="")
        yield lambda done, note="": shown.update(task, completed=done, note=note and f" ({note})")


class _Lines:
    """A line when it starts, and one every few seconds."""

    def __init__(self, what: str, total: int | None) -> None:
        self._what = what
        self._total = f" of {total:,}" if total else ""
        self._started = time.monotonic()
        self._next = self._started + _LINE_EVERY_SECONDS
        say(f"{what} …", err=True)

    def __call__(self, done: int, note: str = "", /) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _LINE_EVERY_SECONDS
            noted = f" ({note})" if note else ""
            seconds = now - self._started
            say(f"{self._what}: {done:,}{self._total}{noted} after {seconds:.0f} s", err=True)
