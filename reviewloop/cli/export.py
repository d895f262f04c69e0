"""``reviewloop export``: what is stored, as Parquet files or Iceberg tables."""

from importlib.util import find_spec
from threading import Event
from typing import Annotated

import typer

from reviewloop.cli.arguments import require_known
from reviewloop.cli.output import FormatOption, RawOption, print_rows
from reviewloop.cli.running import on_signals, show_progress
from reviewloop.export.settings import TableFormat
from reviewloop.settings import load_settings
from reviewloop.wiring.registry import open_database
from reviews.errors import WrongUse
from reviews.export import DATA_SETS

_NEEDED = {
    "parquet": ("pyarrow", "adbc_driver_postgresql"),
    "iceberg": ("pyarrow", "adbc_driver_postgresql", "pyiceberg"),
}
_TABLE = ("data_set", "rows", "files")
_ERASED_TABLE = ("data_set", "day", "rows", "files")


def export(
    target: Annotated[
        str | None,
        typer.Argument(help="A folder, or an address such as s3://BUCKET/FOLDER; unset, export.target."),
    ] = None,
    *,
    table_format: Annotated[
        TableFormat | None, typer.Option("--as", help="Unset, export.table_format.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="One data set; may be given again.")
    ] = None,
    erase: Annotated[
        bool,
        typer.Option("--erase", help="Only take out reviews that were erased since; every export does."),
    ] = False,
    output: FormatOption = None,
    raw: RawOption = False,
) -> None:
    """Write what is new of reviews, predictions, labels and withdrawals to a data lake.

    Each row is exported once, whatever is killed: the next export goes on behind what was committed. One file
    a day and partition; every version of a review. It writes nothing to the database: a replica will do.
    """
    for name in only or ():
        require_known("data set", name, DATA_SETS)
    settings = load_settings(
        {
            "export": {
                "target": target,
                "table_format": table_format,
                "data_sets": tuple(only) if only else None,
            }
        }
    )
    _require_packages(settings.export.table_format)
    from reviewloop.export.wiring import erase_exported, export_data_sets  # imports PyArrow

    stopping = Event()
    with (
        on_signals(stopping),
        open_database(settings) as database,
        show_progress("exporting") as progress,
    ):
        if erase:
            done = [part._asdict() for part in erase_exported(settings.export, database, stopping)]
        else:
            done = [one._asdict() for one in export_data_sets(settings.export, database, stopping, progress)]
    print_rows(iter(done), output, table_columns=_ERASED_TABLE if erase else _TABLE, raw=raw)


def _require_packages(table_format: str) -> None:
    missing = [name for name in _NEEDED[table_format] if not _is_there(name)]
    if missing:
        raise WrongUse(
            f"Exports need {', '.join(missing)}: install them with pip install 'reviewloop[export]'."
        )


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ValueError:  # it is hidden from this process
        return False
