"""A group that lists its commands by name and help, and imports the module of the one that runs."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup


class LazyGroup(TyperGroup):
    """Lists its commands without importing them.

    Click describes this under "Lazily Loading Subcommands", where help still imports every command for its
    summary. Here the summaries are declared, and a test compares them with what the commands say.

    A command ``dead-letters`` is the module ``dead_letters`` of the package: its :class:`typer.Typer` named
    ``app``, or else its function with the module's name.

    Attributes:
        package: Where the modules are.
        logs: The module whose ``keep_logs_out_of_output`` is called before a command is imported.
        summaries: The first line of each command's help, by the command's name.
    """

    package: ClassVar[str]
    logs: ClassVar[str]
    summaries: ClassVar[Mapping[str, str]]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name, summary in self.summaries.items():
            self.add_command(TyperCommand(name, help=summary))

    def load(self, name: str) -> Any:
        """Import a command; returns it as it runs."""
        module_name = name.replace("-", "_")
        module = import_module(f"{self.package}.{module_name}")
        if isinstance(app := getattr(module, "app", None), typer.Typer):
            command: Any = typer.main.get_group(app)
        else:
            app = typer.Typer(add_completion=False)
            app.command(name)(getattr(module, module_name))
            command = typer.main.get_command(app)
        command.name = name
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the command that runs, or whose options a shell completes."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and self._prepared(str(name)), rest

    def _prepared(self, name: str) -> Any:
        import_module(self.logs).keep_logs_out_of_output()
        return self.load(name)
