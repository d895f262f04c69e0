"""Progress of long commands: a bar on a terminal, a plain line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

_LINE_EVERY_SECONDS = 5.0


class Progress(Protocol):
    """Told how many items are done."""

    def __call__(self, done: int, /) -> None:
        """Take note that so many items are done."""


@contextmanager
def show_progress(what: str, total: int | None = None) -> Iterator[Progress]:
    """Show the progress of one long step on standard error.

    Args:
        what: What is done, such as "publishing".
        total: How many items there are, where that is known.
    """
    if sys.stderr.isatty():
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
        progress.TextColumn("{task.completed:,.0f}"),
        progress.TimeElapsedColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task(what, total=total)
        yield lambda done: shown.update(task, completed=done)


class _Lines:
    """A line when it starts, and one every few seconds."""

    def __init__(self, what: str, total: int | None) -> None:
        self._what = what
        self._total = f" of {total:,}" if total else ""
        self._started = time.monotonic()
        self._next = self._started + _LINE_EVERY_SECONDS
        sys.stderr.write(f"{what} …\n")

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _LINE_EVERY_SECONDS
            sys.stderr.write(f"{self._what}: {done:,}{self._total} after {now - self._started:.0f} s\n")
