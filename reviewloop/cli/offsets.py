"""``reviewloop offsets``: where each stream stands."""

from typing import Annotated

import typer

from reviewloop.cli.rows import Format, chosen_format, print_rows

app = typer.Typer(no_args_is_help=True, help="Where each stream stands in the database.")

_TABLE = ("topic", "partition", "start_offset", "next_offset", "topic_id", "cluster_id")


@app.callback()
def _group() -> None:
    """Keep ``show`` a command of its own while it is the only one."""


@app.command()
def show(
    output: Annotated[
        Format | None, typer.Option("--format", help="Unset: a table on a terminal, jsonl elsewhere.")
    ] = None,
) -> None:
    """The stored offset of every partition that was ever read."""
    from dataclasses import asdict

    from reviewloop.settings import load_settings
    from reviewloop.wiring import open_database
    from storage.partitions import PartitionStore

    with open_database(load_settings()) as database:
        positions = PartitionStore(database).list_positions()
    rows = ({name: asdict(item)[name] for name in _TABLE} for item in positions)
    print_rows(rows, chosen_format(output), table_columns=_TABLE)
