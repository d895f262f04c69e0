"""``reviewloop doctor``: is everything there that a worker needs?"""

from typing import Annotated, Literal

import typer

from reviewloop.cli.output import chosen_format, print_list
from reviewloop.operations.doctor import CheckResult, examine_all
from reviewloop.settings import load_settings
from reviewloop.terminal import say
from reviews.json_output import to_json

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def doctor(
    output: Annotated[
        Literal["text", "json", "jsonl"] | None,
        typer.Option("--format", help="Unset: text on a terminal, jsonl elsewhere."),
    ] = None,
) -> None:
    """Is everything there that a worker needs?

    Each line says what was found, and how to repair it: versions, disk space, GPU, Kafka and its topics,
    database, clocks, schema, roles, console, sinks, base model and adapter. Exit code 1 when a line fails;
    warnings alone leave it 0.
    """
    form = chosen_format(output, for_people="text")
    results = []
    for result in examine_all(load_settings()):
        results.append(result)
        if form == "text":
            _show(result)
        elif form == "jsonl":
            say(to_json(result._asdict()))
    if form == "json":
        print_list(result._asdict() for result in results)
    if any(result.level == "fail" for result in results):
        raise typer.Exit(1)


def _show(result: CheckResult) -> None:
    level = typer.style(f"{result.level:<4}", fg=_COLOURS[result.level])
    say(f"  {result.check:<13}  {result.found}", start=level)
    if result.remedy:
        say(f"{'':<21}→ {result.remedy}")
