"""``reviewloop local``: Kafka, PostgreSQL and a schema registry for this folder, without Docker or root."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from reviewloop.cli.output import Format, RecordFormatOption, chosen_format, print_record
from reviewloop.local.places import stack_directory
from reviewloop.local.postgres import psql_program
from reviewloop.local.stack import Stack
from reviewloop.local.state import SERVICE, KafkaStatus, PostgresStatus, RegistryStatus, StackStatus
from reviewloop.terminal import say

app = typer.Typer(no_args_is_help=True, help="A real Kafka and PostgreSQL for this folder, without Docker.")


Folder = Annotated[
    Path | None, typer.Option("--directory", help="Whose stack; unset, that of this folder or of a parent.")
]


@app.command()
def up(
    directory: Folder = None,
    *,
    registry: Annotated[
        bool, typer.Option("--registry", help="Also a schema registry, from now on (159 MB, once per user).")
    ] = False,
    output: RecordFormatOption = None,
) -> None:
    """Start what does not run yet; data and ports of earlier starts are kept."""
    with _progress() as progress:
        status = Stack(stack_directory(directory)).up(progress, with_registry=registry)
    _show(status, output)


@app.command()
def down(
    directory: Folder = None,
    *,
    delete_data: Annotated[
        bool, typer.Option("--delete-data", help="Also remove every topic and every table of this stack.")
    ] = False,
) -> None:
    """Stop all services; their data stays for the next start."""
    folder = stack_directory(directory)
    if not folder.exists():
        say("There is no local stack here.")
        return
    with _progress() as progress:
        if delete_data:
            Stack(folder).delete(progress)
        else:
            Stack(folder).down(progress)
    left = "its data is removed" if delete_data else f"its data stays in {folder}"
    say(f"The local stack is stopped; {left}.")


@app.command()
def status(directory: Folder = None, output: RecordFormatOption = None) -> None:
    """Show what runs, where it listens and where it logs. Exit code 1 when not all of it runs."""
    current = Stack(stack_directory(directory)).status()
    _show(current, output)
    if not current.running:
        say("The local stack does not run here: start it with 'reviewloop local up'.", err=True)
        raise typer.Exit(1)


def _show(status: StackStatus, output: Format | None) -> None:
    form = chosen_format(output)
    if form == "table":
        say(as_text(status))
    else:
        print_record(as_json(status), form)


def as_json(status: StackStatus) -> dict[str, Any]:
    """The status for programs: what is not known yet is null."""
    kafka, postgres = asdict(status.kafka), asdict(status.postgres)
    for service in (kafka, postgres):
        service["log"] = str(service["log"])
    postgres["service_file"] = postgres["service_file"] and str(postgres["service_file"])
    kafka["bootstrap_servers"] = kafka["bootstrap_servers"] or None
    postgres["url"] = postgres["url"] or None
    return {
        "running": status.running,
        "directory": str(status.directory),
        "kafka": kafka,
        "postgres": postgres,
        "registry": status.registry and _registry_as_json(status.registry),
    }


def _registry_as_json(registry: RegistryStatus) -> dict[str, Any]:
    return {**asdict(registry), "log": str(registry.log), "url": registry.url or None}


def as_text(status: StackStatus) -> str:
    """The status for people; addresses are there to be copied, so nothing is cut to the terminal's width.

    Without the password: what people see ends in screenshots, logs and the history of a shell.
    """
    lines = []
    services: list[tuple[str, KafkaStatus | PostgresStatus | RegistryStatus, str]] = [
        ("Apache Kafka", status.kafka, status.kafka.bootstrap_servers),
        ("PostgreSQL", status.postgres, status.postgres.address),
    ]
    if status.registry:
        services.append(("Schema registry", status.registry, status.registry.url))
    for name, service, address in services:
        lines.append(f"{name}: " + (f"runs, pid {service.pid}" if service.running else "stopped"))
        lines.append(f"  address  {address or '(chosen at the first start)'}")
        lines.append(f"  log      {service.log}")
    if status.postgres.service_file:
        lines.append(
            f"  psql     PGSERVICEFILE='{status.postgres.service_file}' {psql_program()} service={SERVICE}"
        )
    return "\n".join(lines)


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A function that tells what is done now: a spinner on a terminal, lines elsewhere."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        yield lambda text: console.print(f"{text} …", markup=False)
        return
    with console.status("Looking at the local stack") as spinner:
        yield lambda text: spinner.update(f"{text} …")
