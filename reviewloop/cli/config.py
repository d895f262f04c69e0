"""``reviewloop config``: the settings in force."""

from enum import StrEnum
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="The settings in force, and where each value came from.")


class Format(StrEnum):
    """How settings are printed."""

    table = "table"
    json = "json"


@app.callback()
def _group() -> None:
    """Keep ``show`` a command of its own while it is the only one."""


@app.command()
def show(
    output: Annotated[Format, typer.Option("--format", help="For people or for programs.")] = Format.table,
) -> None:
    """Every setting, its value (secrets hidden) and where it came from."""
    from reviewloop.settings import load_settings, origins, shown_values

    settings = load_settings()  # first, as it says in a sentence what cannot be read
    came_from = origins()
    rows = [
        (f"{section}.{name}", value, came_from.get((section, name), "default"))
        for section, name, value in shown_values(settings)
    ]
    if output is Format.json:
        import json

        typer.echo(
            json.dumps({name: {"value": value, "from": origin} for name, value, origin in rows}, indent=2)
        )
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("setting", "value", "from")
    for name, value, origin in rows:
        table.add_row(name, Text(value), origin, style=None if origin == "default" else "bold")
    Console().print(table)
