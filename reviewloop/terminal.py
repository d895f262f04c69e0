"""Prints untrusted text on a terminal without control characters or hidden text.

Whatever the command line prints goes through this module: sentences by :func:`say`, tables and records by
``reviewloop.cli.output``, which shows each cell by :func:`one_line`, and JSON by ``reviews.json_output``.
"""

import typer

from reviews.sanitise import sanitise


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
