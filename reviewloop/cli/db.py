"""``reviewloop db``: the schema of the database, and its roles."""

from pathlib import Path
from typing import Annotated

import typer

from reviewloop.cli.arguments import configured, read_password
from reviewloop.operations.logs import configure_logging
from reviewloop.terminal import say
from reviews.errors import WrongUse
from storage.migrate import status as schema_status
from storage.migrate import upgrade as upgrade_schema
from storage.queries.text_index import create_text_index, drop_text_index
from storage.roles import (
    CONSOLE_GRANTS,
    EXPORTER_GRANTS,
    KEEPER_GRANTS,
    READER_GRANTS,
    RESCORER_GRANTS,
    SINK_GRANTS,
    TRAINER_GRANTS,
    WRITER_GRANTS,
    DatabaseRole,
    set_up_roles,
)

app = typer.Typer(no_args_is_help=True, help="The schema of the database, and who may do what with it.")

_NEWER = (
    "The database is at revision {current}, which this program does not know (newest: {newest}): a newer "
    "version upgraded it, and the version before that one can still use it. Upgrade this program as well."
)
_PASSWORD_HELP = "File with the password that this role logs in with; without it, its login stays as it is."  # noqa: S105


@app.command()
def upgrade() -> None:
    """Make the tables, or bring them up to this version; safe to repeat, beside running workers too."""
    configure_logging()
    with configured() as (_, database):
        reached = upgrade_schema(database)
    if reached.is_newer:
        say(_NEWER.format(current=reached.current, newest=reached.newest), err=True)
        return
    say(f"The schema is at revision {reached.current}.")


@app.command()
def status() -> None:
    """The schema's revision; exit code 1 when it is behind this version."""
    with configured() as (_, database):
        found = schema_status(database)
    say(f"revision {found.current or 'none'}, newest {found.newest}")
    if found.is_newer:
        say(_NEWER.format(current=found.current, newest=found.newest), err=True)
    if found.missing:
        say(f"missing: {', '.join(found.missing)}; run 'reviewloop db upgrade'", err=True)
        raise typer.Exit(1)


@app.command("index-text")
def index_text(
    *, drop: Annotated[bool, typer.Option("--drop", help="Remove the index instead.")] = False
) -> None:
    """Make 'query --text' fast for rare words: minutes per million reviews, beside running workers.

    It changes no answer. Each new review then costs the server several times as much.
    """
    with configured() as (_, database):
        if drop:
            drop_text_index(database)
            say("There is no index on texts.")
            return
        made = create_text_index(database)
    say("The index on texts is made." if made else "The index on texts was there.")


@app.command()
def roles(
    *,
    writer: Annotated[str | None, typer.Option(help="For workers: what 'consume' needs and no more.")] = None,
    reader: Annotated[str | None, typer.Option(help="For people and tools: the two views.")] = None,
    rescorer: Annotated[str | None, typer.Option(help="For 'rescore', which exchanges predictions.")] = None,
    trainer: Annotated[
        str | None, typer.Option(help="For the learning loop: training runs, 'label' and the drift watch.")
    ] = None,
    sink: Annotated[str | None, typer.Option(help="For 'sink run', which publishes rows.")] = None,
    console: Annotated[str | None, typer.Option(help="For 'console': its pages and its API.")] = None,
    keeper: Annotated[str | None, typer.Option(help="For 'data retain' and 'forget', which delete.")] = None,
    exporter: Annotated[str | None, typer.Option(help="For 'export', which reads.")] = None,
    writer_password: Annotated[
        Path | None, typer.Option("--writer-password-file", help=_PASSWORD_HELP)
    ] = None,
    reader_password: Annotated[
        Path | None, typer.Option("--reader-password-file", help=_PASSWORD_HELP)
    ] = None,
    rescorer_password: Annotated[
        Path | None, typer.Option("--rescorer-password-file", help=_PASSWORD_HELP)
    ] = None,
    trainer_password: Annotated[
        Path | None, typer.Option("--trainer-password-file", help=_PASSWORD_HELP)
    ] = None,
    sink_password: Annotated[Path | None, typer.Option("--sink-password-file", help=_PASSWORD_HELP)] = None,
    console_password: Annotated[
        Path | None, typer.Option("--console-password-file", help=_PASSWORD_HELP)
    ] = None,
    keeper_password: Annotated[
        Path | None, typer.Option("--keeper-password-file", help=_PASSWORD_HELP)
    ] = None,
    exporter_password: Annotated[
        Path | None, typer.Option("--exporter-password-file", help=_PASSWORD_HELP)
    ] = None,
) -> None:
    """Make roles with as little as they need; run it again after each upgrade, for what is new there."""
    asked = [
        (writer, WRITER_GRANTS, writer_password),
        (reader, READER_GRANTS, reader_password),
        (rescorer, RESCORER_GRANTS, rescorer_password),
        (trainer, TRAINER_GRANTS, trainer_password),
        (sink, SINK_GRANTS, sink_password),
        (console, CONSOLE_GRANTS, console_password),
        (keeper, KEEPER_GRANTS, keeper_password),
        (exporter, EXPORTER_GRANTS, exporter_password),
    ]
    wanted = [
        DatabaseRole(name, grants, read_password(file) if file else None)
        for name, grants, file in asked
        if name is not None
    ]
    if not wanted:
        raise WrongUse(
            "No role is named: give NAME to --writer, --reader, --rescorer, --trainer, --sink, --console, "
            "--keeper or --exporter."
        )
    if len({role.name for role in wanted}) < len(wanted):
        raise WrongUse("Two of them cannot be one role: give each a name of its own.")
    with configured() as (_, database):
        made = set_up_roles(database, wanted)
    options = {
        writer: "--writer",
        reader: "--reader",
        rescorer: "--rescorer",
        trainer: "--trainer",
        sink: "--sink",
        console: "--console",
        keeper: "--keeper",
        exporter: "--exporter",
    }
    for name, state in made.items():
        login = (
            ""
            if state.can_log_in
            else f"; it cannot log in: give {options[name]}-password-file, or grant it to a role that can"
        )
        say(f"{name}: {'made' if state.is_new else 'was there'}, privileges set{login}")
