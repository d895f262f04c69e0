"""``reviewloop config``: the settings in force, and the page that lists them."""

from typing import Annotated

import typer

from reviewloop.cli.rows import (
    Format,
    RecordFormat,
    RecordFormatOption,
    chosen_record_format,
    print_record,
    print_rows,
)
from reviewloop.settings import load_settings, shown_settings
from reviewloop.settings_page import settings_page
from reviewloop.visible import say
from reviews.errors import WrongUse

app = typer.Typer(no_args_is_help=True, help="The settings in force, and what each of them does.")


@app.command()
def show(
    name: Annotated[
        str | None, typer.Argument(help="Only this section or setting, such as 'kafka' or 'trainer.gate'.")
    ] = None,
    output: RecordFormatOption = None,
) -> None:
    """Every setting: its value (secrets hidden), where that came from, and what it does."""
    every = list(shown_settings(load_settings()))
    chosen = [item for item in every if name is None or f"{item.name}.".startswith(f"{name}.")]
    if not chosen:
        sections = ", ".join(dict.fromkeys(item.name.partition(".")[0] for item in every))
        raise WrongUse(f"There is no section or setting '{name}'; the sections are {sections}.")
    form = chosen_record_format(output)
    if form is RecordFormat.json:
        known = {item.name: {"value": item.value, "from": item.origin, "does": item.does} for item in chosen}
        print_record(known, form)
    elif form is RecordFormat.jsonl:
        rows = (
            {"setting": item.name, "value": item.value, "from": item.origin, "does": item.does}
            for item in chosen
        )
        print_rows(rows, Format.jsonl, table_columns=())
    else:
        for item in chosen:
            origin = "" if item.origin == "default" else f"   ({item.origin})"
            say(f"{item.name} = {item.value}{origin}\n    {item.does}")


@app.command()
def page() -> None:
    """Write docs/settings.md to standard output: every setting with its default, as Markdown."""
    say(settings_page().removesuffix("\n"))
