"""Prints untrusted text on a terminal without control characters or hidden text.

Whatever the command line prints goes through this module: sentences by :func:`say`, tables and records by
``reviewloop.cli.output``, which shows each cell by :func:`one_line`, and JSON by :func:`to_json`.
"""

import json
from datetime import datetime
from typing import Any

import typer

from reviews.sanitise import KEPT, sanitise


def one_line(value: object) -> str:
    """The value as sanitised text, with one blank for each run of white space."""
    return " ".join(sanitise(str(value)).split())


def say(text: str, *, err: bool = False, start: str = "") -> None:
    """Print a sentence, or several lines, for people.

    Args:
        text: Sanitised; it may hold anything.
        err: To standard error.
        start: Printed before it as it is, colours included.
    """
    typer.echo(start + sanitise(text), err=err)  # noqa: TID251  the one place


def to_json(value: object, *, indent: int | None = None) -> str:
    """The value as JSON that loses nothing: what is not printable is written as an escape.

    Times become ISO 8601, bytes that are not UTF-8 keep backslashes for what cannot be decoded.
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
    return "".join(mark if mark.isprintable() or mark in KEPT else json.dumps(mark)[1:-1] for mark in text)
