"""Keys from lines and from a pseudo-terminal."""

import io
import os
import pty
import tty
from collections.abc import Iterator

import pytest

from reviewloop.labelling.terminal import LineKeys, TerminalKeys


@pytest.fixture
def terminal() -> Iterator[tuple[int, TerminalKeys]]:
    """The typing end, and the keys at the other end."""
    hand, screen = pty.openpty()
    tty.setraw(screen)
    yield hand, TerminalKeys(screen)
    os.close(hand)
    os.close(screen)


def test_lines_are_words_without_blank_ones_until_the_end():
    keys = LineKeys(io.BytesIO(b"1\n\n  positive \r\nq\xff"))
    assert [keys.next() for _ in range(4)] == ["1", "positive", "q\N{REPLACEMENT CHARACTER}", None]


def test_keys_come_one_by_one_and_arrows_are_no_answers(terminal):
    hand, keys = terminal
    os.write(hand, b"1\x1b[A\x1b[1;5C\x1bOPp\x1bz\xc3\xa9\x1b[200~q")
    assert [keys.next() for _ in range(4)] == ["1", "p", "é", "q"]


def test_a_letter_cut_in_two_is_one_key(terminal):
    hand, keys = terminal
    os.write(hand, "é".encode()[:1])
    os.write(hand, "é".encode()[1:] + b"2")
    assert [keys.next(), keys.next()] == ["é", "2"]


def test_what_was_typed_ahead_is_dropped(terminal):
    hand, keys = terminal
    os.write(hand, b"12")
    assert keys.next() == "1"
    os.write(hand, b"3")
    keys.forget()
    os.write(hand, b"4")
    assert keys.next() == "4"


def test_ctrl_d_ends(terminal):
    hand, keys = terminal
    os.write(hand, b"\x04")
    assert keys.next() is None
