"""Every command of the command line, imported."""

from collections.abc import Iterator
from typing import Any

import typer

from reviewloop.cli import app
from reviewloop.cli.lazy import LazyGroup


def all_commands() -> Iterator[tuple[str, Any]]:
    """Groups and commands by what people type behind ``reviewloop``, which itself comes first, as ``""``."""
    return _below("", typer.main.get_command(app))


def _below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for child in getattr(command, "commands", {}):
        found = command.load(child) if isinstance(command, LazyGroup) else command.commands[child]
        yield from _below(f"{name} {child}".strip(), found)
