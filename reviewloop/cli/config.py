"""``reviewloop config``: the settings in effect, and the page that lists them."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, get_args

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from reviewloop.cli.output import RecordFormatOption, chosen_format, print_record, print_rows
from reviewloop.settings import Settings, load_settings, shown_settings, shown_value
from reviewloop.terminal import say
from reviews.errors import WrongUse

_HEAD = """\
# Settings

This page is generated from the descriptions of the settings: `reviewloop config page > docs/settings.md`.
`reviewloop config show` prints the current values, and the source of each.

A value is taken from the first of these sources that has one: the command line; the environment; the files in
the directory that `REVIEWLOOP_SECRETS` names; the settings file, which is `reviewloop.toml` in the current
directory or the file that `--config` or `REVIEWLOOP_CONFIG` names; the running local stack; the default.

`section.name` is `name` under `[section]` in the settings file. As a variable, and as the name of a secret
file, it is `REVIEWLOOP_SECTION__NAME`; `trainer.gate.alpha` is `REVIEWLOOP_TRAINER__GATE__ALPHA`. In a
variable, lists are JSON. A variable with an unknown section, or with one underscore too few, is rejected.
"""
_OFTEN = (
    "There is none by default, and there may be several: each begins with `[[{section}]]` in the settings "
    "file. As a variable, all of them are one list of objects in JSON."
)
_BOUNDS = {
    "minimum": "from {:,}",
    "exclusiveMinimum": "above {:,}",
    "maximum": "up to {:,}",
    "exclusiveMaximum": "below {:,}",
}
_KINDS = {
    "integer": "integer",
    "number": "number",
    "boolean": "`true` or `false`",
    "string": "text",
    "array": "list",
    "object": "table",
}
app = typer.Typer(no_args_is_help=True, help="The settings in effect, and what each of them does.")


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
    form = chosen_format(output)
    if form == "json":
        known = {item.name: {"value": item.value, "from": item.origin, "does": item.does} for item in chosen}
        print_record(known, form)
    elif form == "jsonl":
        rows = (
            {"setting": item.name, "value": item.value, "from": item.origin, "does": item.does}
            for item in chosen
        )
        print_rows(rows, "jsonl", table_columns=())
    else:
        for item in chosen:
            origin = "" if item.origin == "default" else f"   ({item.origin})"
            say(f"{item.name} = {item.value}{origin}\n    {item.does}")


@app.command()
def page() -> None:
    """Write docs/settings.md to standard output: every setting with its default, as Markdown."""
    say(settings_page().removesuffix("\n"))


def settings_page() -> str:
    """Every setting with its default, what it may be and what it does, as Markdown."""
    parts = [_HEAD]
    for section, field in Settings.model_fields.items():
        model: Any = field.annotation
        often = not isinstance(model, type)
        title = f"{section}\n\n{_OFTEN.format(section=section)}" if often else section
        model = get_args(model)[0] if often else model
        parts.append(f"\n## {title}\n\n| setting | default | may be | what it does |\n|---|---|---|---|\n")
        for name, leaf, schema in _leaves(model):
            cells = (f"`{section}.{name}`", _default(leaf), _kind(schema), leaf.description or "")
            parts.append(f"| {' | '.join(map(_cell, cells))} |\n")
    return "".join(parts)


def _leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo, Mapping[str, Any]]]:
    """Name, field and JSON schema of each setting of a section, those within its own sections with a dot."""
    schemas = model.model_json_schema()["properties"]
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _leaves(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field, schemas[name]


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if isinstance(value, tuple) and any(isinstance(item, BaseModel) for item in value):
        return ", ".join(f"`{item.name}`" for item in value)
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    shown = shown_value(value)
    return "none" if value is None else f"`{shown}`" if shown else "empty"


def _kind(schema: Mapping[str, Any]) -> str:
    for one in schema.get("anyOf", ()):
        if one.get("type") != "null":
            return _kind(one)
    if "$ref" in schema:
        return "table"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("format") == "password":
        return "secret text"
    kind = "path" if schema.get("format") == "path" else _KINDS[schema["type"]]
    return " ".join(
        [kind, *(words.format(schema[name]) for name, words in _BOUNDS.items() if name in schema)]
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
