"""Prints untrusted text on a terminal without control characters or hidden text.

Whatever the command line prints goes through this module: sentences by :func:`say`, tables and records by
``reviewloop.cli.output``, which shows each cell by :func:`one_line`, and JSON by ``reviews.json_output``.
"""

import shutil
import sys
import textwrap

import typer

from reviews.sanitise import sanitise

_NARROWEST = 20  # columns that are worth folding to


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


def say_named(name: str, text: object, indent: int) -> None:
    """Print a value behind its name; on a terminal, its further lines stand below its first.

    Args:
        name: Ends before the value.
        text: Sanitised; it may hold anything.
        indent: Where the value begins.
    """
    say_behind(f"{name:>{indent - 2}}  ", text)


def say_behind(head: str, text: object, *, err: bool = False) -> None:
    """Print a text behind what it begins with; on a terminal, its further lines stand below its first.

    Args:
        head: Printed before the text.
        text: Sanitised, with one blank for each run of white space.
        err: To standard error.
    """
    stream = sys.stderr if err else sys.stdout
    width = shutil.get_terminal_size().columns if stream.isatty() else None
    say(head + folded(one_line(text), len(head), width), err=err)


def folded(text: str, indent: int, width: int | None) -> str:
    """A text in lines of a terminal; words that are longer than a line are left whole.

    Args:
        text: One line.
        indent: How many columns the first line begins with, and the others get in blanks.
        width: Of the terminal; None: it has none, and nothing is folded.
    """
    if width is None or width - indent < _NARROWEST:
        return text
    lines = textwrap.wrap(text, width - indent, break_long_words=False, break_on_hyphens=False)
    return ("\n" + " " * indent).join(lines)
