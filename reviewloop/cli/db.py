"""``reviewloop db``: the schema of the database."""

import typer

app = typer.Typer(no_args_is_help=True, help="The schema of the database.")


@app.command()
def upgrade() -> None:
    """Make the tables, or bring them up to this version; safe to repeat, and from several machines."""
    from reviewloop.settings import load_settings
    from reviewloop.wiring import open_database
    from storage.migrate import upgrade as upgrade_schema

    with open_database(load_settings()) as database:
        reached = upgrade_schema(database)
    typer.echo(f"The schema is at revision {reached.current}.")


@app.command()
def status() -> None:
    """The schema's revision; exit code 1 when it is behind this version."""
    from reviewloop.settings import load_settings
    from reviewloop.wiring import open_database
    from storage.migrate import status as schema_status

    with open_database(load_settings()) as database:
        found = schema_status(database)
    typer.echo(f"revision {found.current or 'none'}, newest {found.newest}")
    if found.missing:
        typer.echo(f"missing: {', '.join(found.missing)}; run 'reviewloop db upgrade'", err=True)
        raise typer.Exit(1)
