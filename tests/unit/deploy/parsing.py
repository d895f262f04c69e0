"""Whether the command line takes some arguments."""

from typing import Any

import typer

from reviewloop.cli import app


def parse(arguments: list[str]) -> None:
    """Parse as a run would, down to the last option, without running anything; raises where a run would."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("reviewloop", arguments)
    while hasattr(command, "commands"):
        left = [*context._protected_args, *context.args]
        if not left and command.invoke_without_command:
            return
        name, command, left = command.resolve_command(context, left)
        context = command.make_context(name, left, parent=context)
