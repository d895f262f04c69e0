"""The annotator's terminal: what is drawn, and how keys are read."""

import codecs
import contextlib
import os
import re
import select
import signal
import sys
import termios
import tty
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Protocol

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from console.labelling import HELP, Choices, Command
from reviews.queue_item import LeasedItem
from reviews.sanitise import sanitise

_WIDEST = 100  # longer lines are hard to read
_FIRST_CHARACTERS = 2_000
_FIRST_LINES = 30


_END = "\x04"  # Ctrl-D
_CHUNK_BYTES = 1024
_SEQUENCE_PATIENCE_SECONDS = 0.05
_WAKE_SECONDS = 0.5
# What arrows and function keys send; their letters are not answers.
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|[^\[O])?", re.DOTALL)
_UNFINISHED = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*|O)?\Z")


class Screen:
    """Prints items, choices and remarks.

    Args:
        choices: The labels with their keys.
        console: Where to.
    """

    def __init__(self, choices: Choices, console: Console) -> None:
        self._choices = choices
        self._console = console
        console.width = min(console.width, _WIDEST)

    def show(self, item: LeasedItem, progress: str) -> None:
        """An item with the choices, and neither the model's guess nor why it was chosen."""
        self._console.print(Rule(Text(progress), style="dim"))
        facts = (item.product, item.source, f"{item.published_at:%Y-%m-%d %H:%M} UTC", item.review_id)
        self._line(" · ".join(_one_line(fact) for fact in facts if fact), "dim")
        if item.is_edited:
            self._line("This review has been edited since; judge the text as it stands here.", "yellow")
        text = sanitise(item.text)
        shown = _beginning(text)
        self._line(f"\n{shown}\n", "")
        if len(shown) < len(text):
            self._line(f"… {len(text) - len(shown):,} characters more: m shows them.", "yellow")
        self._console.print(self._offer())

    def show_whole(self, item: LeasedItem) -> None:
        """The whole text of an item, with the choices."""
        self._line(f"\n{sanitise(item.text)}\n", "")
        self._console.print(self._offer())

    def show_guidelines(self, markdown: str | None) -> None:
        """What annotators of the task should know, as it was written."""
        self._line(f"\n{sanitise(markdown)}\n" if markdown else "This task has no guidelines yet.", "")
        self._console.print(self._offer())

    def show_help(self) -> None:
        """What each key does."""
        for label in self._choices.labels:
            self._line(f"  {' or '.join(self._choices.keys[label]):>6}  {_one_line(label)}", "")
        for command, meaning in HELP.items():
            self._line(f"  {command.value:>6}  {command.name}: {meaning}", "")

    def tell_choice(self, item: LeasedItem, label: str | None, *, reveal_guess: bool) -> None:
        """The choice that was made, and then what the model had said."""
        told = Text("→ " + ("unsure" if label is None else _one_line(label)), "bold")
        if reveal_guess and item.guess is not None:
            guess = item.guess
            style = "green" if guess.label == label else "yellow"
            told.append(f"   the model: {_one_line(guess.label)} ({guess.confidence:.2f})", style)
        elif reveal_guess:
            told.append("   the model has not scored it", "dim")
        self._console.print(told)

    def remark(self, sentence: str) -> None:
        """Something the annotator should know."""
        self._line(sanitise(sentence), "yellow")

    def _line(self, text: str, style: str) -> None:
        self._console.print(Text(text, style))

    def _offer(self) -> Text:
        offer = Text()
        for label, (key, *others) in self._choices.keys.items():
            offer.append(key, "bold cyan")
            offer.append(f" {_one_line(label)}" + "".join(f" ({other})" for other in others) + "   ")
        offer.append("\n")
        for command in Command:
            offer.append(command.value, "bold")
            offer.append(f" {command.name}   ", "dim")
        offer.rstrip()
        return offer


def _beginning(text: str) -> str:
    return "\n".join(text[:_FIRST_CHARACTERS].split("\n")[:_FIRST_LINES])


def _one_line(text: str) -> str:
    return " ".join(sanitise(text).split())


class Keys(Protocol):
    """Hands over what was typed, in order."""

    def next(self) -> str | None:
        """The next key, or the next line; None when there will be no more."""

    def forget(self) -> None:
        """Drop what was typed before now: it was meant for something that is not on the screen any more."""


class LineKeys:
    """Lines, for input that is not a terminal; blank ones are skipped."""

    def __init__(self, lines: IO[bytes]) -> None:
        self._lines = lines

    def next(self) -> str | None:
        """The next line that is not blank."""
        for line in self._lines:
            if word := line.decode("utf-8", "replace").strip():
                return word
        return None

    def forget(self) -> None:
        """Nothing: lines are written for what comes."""


class TerminalKeys:
    """Single keypresses of a terminal that is in the right mode.

    Args:
        fd: Its file descriptor.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._typed: deque[str] = deque()

    def next(self) -> str | None:
        """The next key; arrows and other keys that send sequences are ignored."""
        while not self._typed:
            chunk = self._read()
            if not chunk:
                return None
            self._typed.extend(_SEQUENCE.sub("", self._decoder.decode(chunk)))
        key = self._typed.popleft()
        return None if key == _END else key

    def forget(self) -> None:
        """Drop what was typed before now."""
        self._typed.clear()
        termios.tcflush(self._fd, termios.TCIFLUSH)

    def _read(self) -> bytes:
        try:
            # A signal that comes just before a read would be looked at only after the next key.
            while not self._has_more(_WAKE_SECONDS):
                pass
            chunk = os.read(self._fd, _CHUNK_BYTES)
            while _UNFINISHED.search(chunk) and self._has_more(_SEQUENCE_PATIENCE_SECONDS):
                more = os.read(self._fd, _CHUNK_BYTES)
                if not more:
                    break
                chunk += more
        except OSError:  # the terminal is gone
            return b""
        return chunk

    def _has_more(self, seconds: float) -> bool:
        return bool(select.select([self._fd], [], [], seconds)[0])


@contextmanager
def open_keys() -> Iterator[Keys]:
    """The keys of standard input; a terminal is put back into its mode in the end."""
    if not sys.stdin.isatty() or sys.platform == "win32":
        yield LineKeys(sys.stdin.buffer)
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    with _closed_like_interrupted():
        try:
            tty.setcbreak(fd)  # no echo, no Enter; Ctrl-C and Ctrl-Z work as ever
            yield TerminalKeys(fd)
        finally:
            with contextlib.suppress(termios.error):  # the window is closed
                termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextmanager
def _closed_like_interrupted() -> Iterator[None]:
    """Let a closed window or SIGTERM end the session as Ctrl-C does, which releases the review at once."""
    signals = (signal.SIGHUP, signal.SIGTERM)
    before = [signal.signal(number, signal.default_int_handler) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
