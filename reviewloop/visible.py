"""Texts of strangers on a terminal: nothing in them may move the cursor, change colours or hide a part.

Whatever the command line prints goes through this module: sentences by :func:`say`, tables and records by
``reviewloop.cli.rows``, which shows each cell by :func:`one_line`, and JSON by :func:`to_json`.
"""

import json
import re
import unicodedata
from datetime import datetime
from typing import Any

import typer

_KEPT = frozenset("\n\t\u200c\u200d")  # joiners: Persian, Indic scripts and many emoji need them
_LINE_ENDS = re.compile("\r\n|[\u2028\u2029]")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def visible(text: str) -> str:
    """The text with a visible sign in place of each control or formatting character.

    Line feeds, tabs and joiners stay. So do the letters of an escape sequence: a reader sees what the model
    was given.
    """
    return "".join(map(_shown, _LINE_ENDS.sub("\n", text)))


def one_line(value: object) -> str:
    """The value as visible text, with one blank for each run of white space."""
    return " ".join(visible(str(value)).split())


def say(text: str, *, err: bool = False, start: str = "") -> None:
    """Print a sentence, or several lines, for people.

    Args:
        text: Made visible; it may hold anything.
        err: To standard error.
        start: Printed before it as it is, colours included.
    """
    typer.echo(start + visible(text), err=err)  # noqa: TID251  the one place


def to_json(value: object, *, indent: int | None = None) -> str:
    """The value as JSON that loses nothing: what is not printable is written as an escape.

    Times become ISO 8601, bytes that are no UTF-8 keep backslashes for what cannot be decoded.
    """
    return _escaped(json.dumps(value, default=plain, ensure_ascii=False, indent=indent))


def plain(value: Any) -> Any:
    """What JSON and CSV write for a value that they have no notation for."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _escaped(text: str) -> str:
    """JSON with each character that a terminal might obey as an escape; line feeds are those of an indent."""
    if text.isprintable():
        return text
    return "".join(mark if mark.isprintable() or mark in _KEPT else json.dumps(mark)[1:-1] for mark in text)


def _shown(character: str) -> str:
    if character.isprintable() or character in _KEPT:
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)  # the picture of a control character, such as ␛
    if code == 0x7F:
        return "\N{SYMBOL FOR DELETE}"
    return " " if unicodedata.category(character) == "Zs" else _REPLACEMENT
