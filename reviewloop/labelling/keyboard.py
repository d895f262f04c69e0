"""Where the keys come from: a terminal, one keypress at a time, or lines of a file or pipe."""

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

_END = "\x04"  # Ctrl-D
_CHUNK_BYTES = 1024
_SEQUENCE_PATIENCE_SECONDS = 0.05
_WAKE_SECONDS = 0.5
# What arrows and function keys send; their letters are no answers.
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|[^\[O])?", re.DOTALL)
_UNFINISHED = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*|O)?\Z")


class Keys(Protocol):
    """Hands over what was typed, in order."""

    def next(self) -> str | None:
        """The next key, or the next line; None when there will be no more."""

    def forget(self) -> None:
        """Drop what was typed before now: it was meant for something that is not on the screen any more."""


class LineKeys:
    """Lines, for input that is no terminal; blank ones are passed over."""

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
        """The next key; arrows and other keys that send sequences are passed over."""
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
    """Let a closed window or a kill end the sitting as Ctrl-C does, so that the review goes back at once."""
    signals = (signal.SIGHUP, signal.SIGTERM)
    before = [signal.signal(number, signal.default_int_handler) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
