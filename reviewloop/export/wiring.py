"""An export from the settings: its source, its target, and its lock."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from threading import Event

from reviewloop.export.exporter import Exported, Exporter, Target
from reviewloop.export.folder import FolderTarget
from reviewloop.export.places import open_place
from reviewloop.export.settings import ExportSettings
from reviews.errors import WrongUse
from storage.arrow import open_arrow
from storage.database import Database
from storage.exporting import ExportSource, exclusive


def export_data_sets(
    settings: ExportSettings, database: Database, stopping: Event, on_rows: Callable[[int], None]
) -> Iterator[Exported]:
    """Export what is new of each configured data set; what was written, once each is done.

    Args:
        settings: What and where to.
        database: Where from.
        stopping: Ends the export; what was committed stays.
        on_rows: Told how many rows were written so far.

    Raises:
        WrongUse: If there is no target, or it was filled from another database.
        Unavailable: If the database does not answer, or not now.
        ReviewLoopError: If the target cannot be written, or another export to it is at work.
    """
    if settings.target is None:
        raise WrongUse("Where to? Name a folder or an address: 'reviewloop export TARGET', or export.target.")
    name = settings.target if "://" in settings.target else str(Path(settings.target).expanduser().absolute())
    with (
        open_arrow(database) as arrow,
        exclusive(database, name) as lock,
        _open_target(settings, name) as target,
    ):
        exporter = Exporter(ExportSource(database, arrow), target, lock, stopping=stopping, on_rows=on_rows)
        for data_set in settings.data_sets:
            yield exporter.export(data_set)


def _open_target(settings: ExportSettings, name: str) -> AbstractContextManager[Target]:
    if settings.table_format == "parquet":
        return nullcontext(FolderTarget(open_place(name)))
    from reviewloop.export.iceberg import open_tables  # noqa: PLC0415  a second, which Parquet does not need

    return open_tables(settings, name)
