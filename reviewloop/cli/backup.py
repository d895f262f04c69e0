"""``reviewloop backup``: write a backup, or refresh its list of erasures."""

from pathlib import Path
from typing import Annotated

import typer

from reviewloop.cli.arguments import configured
from reviewloop.operations.backup import back_up, list_erasures
from reviewloop.operations.logs import configure_logging
from reviewloop.terminal import say


def backup(
    directory: Annotated[Path, typer.Argument(help="A new directory.", metavar="DIR")],
    *,
    erasures_only: Annotated[
        bool, typer.Option("--erasures-only", help="Only write the list of erasures of an old backup anew.")
    ] = False,
) -> None:
    """Write all of the database into a directory, with a manifest to check it by.

    Workers go on meanwhile. It needs pg_dump of the server's version or a newer one. Run it as the owner of
    the tables, and run it with --erasures-only after each erasure: only so a restore knows of it.
    """
    configure_logging()
    with configured() as (_, database):
        if erasures_only:
            listed = list_erasures(database, directory)
            say(f"{directory} lists {listed:,} erasures.")
            return
        manifest = back_up(database, directory)
    reviews = manifest.content.rows.get("review", 0)
    say(f"{directory} holds {reviews:,} reviews in {manifest.dump_bytes:,} bytes, as of {manifest.taken_at}.")
