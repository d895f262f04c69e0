"""An export from the settings: its source, its target, and its lock."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from threading import Event

import structlog

from reviewloop.export.erasing import ErasableTarget, ErasedPart, ExportEraser
from reviewloop.export.exporter import Exported, Exporter
from reviewloop.export.folder import FolderTarget
from reviewloop.export.places import open_place
from reviewloop.export.settings import ExportSettings, target_name
from storage.arrow import open_arrow
from storage.database import Database
from storage.exporting import ExportSource, exclusive
from storage.lifecycle.exported import ExportErasures

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class OpenExport:
    """A target that this process alone writes to, and its database.

    Attributes:
        eraser: Takes erased reviews out of it.
        exporter: Adds what is new.
    """

    eraser: ExportEraser
    exporter: Exporter


@contextmanager
def open_export(
    settings: ExportSettings, database: Database, stopping: Event, on_rows: Callable[[int], None]
) -> Iterator[OpenExport]:
    """The target of the settings, for as long as the block runs.

    Args:
        settings: What and where to.
        database: Where from.
        stopping: Ends the export; what was committed stays.
        on_rows: Told how many rows were written so far.

    Raises:
        WrongUse: If there is no target.
        Unavailable: If the database does not answer.
        ReviewLoopError: If another export to the target is at work.
    """
    name = target_name(settings)
    with (
        open_arrow(database) as arrow,
        exclusive(database, name) as lock,
        _open_target(settings, name) as target,
    ):
        source = ExportSource(database, arrow)
        yield OpenExport(
            ExportEraser(target, ExportErasures(database, name), lock, stopping),
            Exporter(source, target, lock, stopping=stopping, on_rows=on_rows),
        )


def export_data_sets(
    settings: ExportSettings, database: Database, stopping: Event, on_rows: Callable[[int], None]
) -> Iterator[Exported]:
    """Export what is new of each configured data set; what was written, once each is done.

    What was erased since the last export leaves the files before that. The arguments are those of
    :func:`open_export`.

    Raises:
        WrongUse: As from there, and if the target was filled from another database.
        Unavailable: If the database does not answer, or not now.
        ReviewLoopError: As from there, and if the target cannot be written.
    """
    with open_export(settings, database, stopping, on_rows) as opened:
        for part in opened.eraser.run():
            log.info("exported_reviews_erased", **part._asdict())
        for data_set in settings.data_sets:
            yield opened.exporter.export(data_set)


def erase_exported(settings: ExportSettings, database: Database, stopping: Event) -> Iterator[ErasedPart]:
    """Take erased reviews out of the files, and export nothing; each part that was written anew.

    The arguments are those of :func:`open_export`, and the errors those of :func:`export_data_sets`.
    """
    with open_export(settings, database, stopping, lambda _: None) as opened:
        yield from opened.eraser.run()


def _open_target(settings: ExportSettings, name: str) -> AbstractContextManager[ErasableTarget]:
    if settings.table_format == "parquet":
        return nullcontext(FolderTarget(open_place(name)))
    from reviewloop.export.iceberg import open_tables  # noqa: PLC0415  a second, which Parquet does not need

    return open_tables(settings, name)
