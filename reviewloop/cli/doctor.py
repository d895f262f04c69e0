"""``reviewloop doctor``: is everything there that a worker needs?"""

import sys
from enum import StrEnum
from typing import Annotated

import typer

from reviewloop.cli.rows import print_list
from reviewloop.doctor.examination import examine_all
from reviewloop.doctor.finding import Finding
from reviewloop.settings import load_settings
from reviewloop.visible import say, to_json

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


class FindingsFormat(StrEnum):
    """How findings are printed."""

    text = "text"
    json = "json"
    jsonl = "jsonl"


def doctor(
    output: Annotated[
        FindingsFormat | None, typer.Option("--format", help="Unset: text on a terminal, jsonl elsewhere.")
    ] = None,
) -> None:
    """Is everything there that a worker needs?

    Each line says what was found, and how to mend it: versions, disk space, GPU, Kafka and its topics,
    database, clocks, schema, roles, base model and adapter. Exit code 1 when a line fails; warnings alone
    leave it 0.
    """
    form = output or (FindingsFormat.text if sys.stdout.isatty() else FindingsFormat.jsonl)
    findings = []
    for finding in examine_all(load_settings()):
        findings.append(finding)
        if form is FindingsFormat.text:
            _show(finding)
        elif form is FindingsFormat.jsonl:
            say(to_json(finding._asdict()))
    if form is FindingsFormat.json:
        print_list(finding._asdict() for finding in findings)
    if any(finding.level == "fail" for finding in findings):
        raise typer.Exit(1)


def _show(finding: Finding) -> None:
    level = typer.style(f"{finding.level:<4}", fg=_COLOURS[finding.level])
    say(f"  {finding.check:<13}  {finding.found}", start=level)
    if finding.remedy:
        say(f"{'':<21}→ {finding.remedy}")
