"""``reviewloop doctor``: is everything there that a worker needs?"""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from reviewloop.visible import say

if TYPE_CHECKING:
    from reviewloop.doctor.finding import Finding

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


class Format(StrEnum):
    """How findings are printed."""

    text = "text"
    json = "json"


def doctor(
    output: Annotated[Format, typer.Option("--format", help="For people or for programs.")] = Format.text,
) -> None:
    """Is everything there that a worker needs? Each line says what was found, and how to mend it.

    Looks at versions, disk space, GPU, Kafka and its topics, database, clocks, schema, roles, base model and
    adapter. Exit code 1 when a line fails; warnings alone leave it 0.
    """
    from reviewloop.doctor.examination import examine_all
    from reviewloop.settings import load_settings

    findings = []
    for finding in examine_all(load_settings()):
        findings.append(finding)
        if output is Format.text:
            _show(finding)
    if output is Format.json:
        import json

        say(json.dumps([finding._asdict() for finding in findings], indent=2))
    if any(finding.level == "fail" for finding in findings):
        raise typer.Exit(1)


def _show(finding: "Finding") -> None:
    level = typer.style(f"{finding.level:<4}", fg=_COLOURS[finding.level])
    say(f"  {finding.check:<13}  {finding.found}", start=level)
    if finding.remedy:
        say(f"{'':<21}→ {finding.remedy}")
