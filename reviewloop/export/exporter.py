"""Writes what is new of each data set into files, and moves its position with them.

A file has rows of one day and, but for labels, of one partition, in order: it covers a contiguous range of
offsets. It is a part of the data set once the target has committed it, with the position behind it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import groupby, pairwise
from operator import itemgetter
from threading import Event
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from reviewloop.export.data_sets import ALL, AdapterColumns, DataSet, in_columns_of, placed, records_of
from reviews.errors import ReviewLoopError, WrongUse
from reviews.export import DataSetName, ExportPosition, StreamEnd
from reviews.record_id import MAX_OFFSET
from storage.exporting import ExportLock, ExportSource

ROWS_A_FILE = 5_000_000
_ROWS_A_GROUP = 128 << 10
_BYTES_A_GROUP = 64 << 20
_EMPTY = "day=1970-01-01/no-rows.parquet"
_DAY_MICROSECONDS = 24 * 3600 * 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Target(Protocol):
    """Where files become a data set.

    Attributes:
        files_a_commit: How many files are committed together.
        has_columns: Whether a data set has its columns without a file.
    """

    files_a_commit: int
    has_columns: bool

    def position(self, data_set: DataSetName) -> ExportPosition | None:
        """How far a data set is written; None: it was never exported."""

    def writing(self, data_set: DataSetName, path: str) -> Any:
        """A context whose stream becomes a file that is no part of the data set yet."""

    def commit(self, data_set: DataSetName, files: Sequence[str], position: ExportPosition) -> None:
        """Make files a part of the data set and move its position, unless somebody else moved it."""


class Exported(NamedTuple):
    """What an export wrote of a data set.

    Attributes:
        data_set: Which.
        files: How many files.
        rows: How many rows.
    """

    data_set: DataSetName
    files: int
    rows: int


class Exporter:
    """Exports data sets to a target.

    Args:
        source: Where rows come from.
        target: Where they go.
        lock: Keeps other exports away from the target.
        stopping: Ends the export at the next batch of rows.
        on_rows: Told how many rows were written so far.
        rows_a_file: A file gets no more batches once it has so many rows.
    """

    def __init__(
        self,
        source: ExportSource,
        target: Target,
        lock: ExportLock,
        *,
        stopping: Event | None = None,
        on_rows: Callable[[int], None] = lambda _: None,
        rows_a_file: int = ROWS_A_FILE,
    ) -> None:
        self._source = source
        self._target = target
        self._lock = lock
        self._stopping = stopping or Event()
        self._on_rows = on_rows
        self._rows_a_file = rows_a_file
        self._adapters = AdapterColumns(source.adapters)
        self._rows = 0

    def export(self, name: DataSetName) -> Exported:
        """Write what is new of a data set.

        Raises:
            WrongUse: If the target was filled from another database.
            Unavailable: If the database does not answer, or not now.
            ReviewLoopError: If the target cannot be written, or somebody stopped the export.
        """
        identity = self._source.identity()
        if identity is None:
            return Exported(name, 0, 0)
        before = self._target.position(name)
        if before is not None and before.database != identity:
            raise WrongUse(
                "The target was filled from another database, whose records have the same numbers: export to "
                "a target of its own."
            )
        progress = _Unfinished(self._target, self._lock, name, before, identity)
        rows = self._rows
        if name == "labels":
            self._export_labels(progress)
        elif name == "predictions":
            self._export_rescored(progress)
            self._export_streams(progress, self._predictions, lambda _, batch: self._adapters.of(batch))
        else:
            read = self._source.reviews if name == "reviews" else self._source.withdrawals
            self._export_streams(progress, lambda _, stream, first: read(stream, first), placed)
        if before is None and not progress.files and not self._target.has_columns:
            with parquet_rows(progress.data_set, self._target.writing(name, _EMPTY)):
                pass  # so that readers find the columns, and no rows
            progress.add(_EMPTY, progress.position)
        progress.commit()
        return Exported(name, progress.files, self._rows - rows)

    def _predictions(self, position: ExportPosition, stream: StreamEnd, first: int) -> Iterator[Any]:
        return self._source.predictions(stream, first, position.jobs)

    def _export_streams(
        self,
        progress: "_Unfinished",
        read: Callable[[ExportPosition, StreamEnd, int], Iterator[Any]],
        more: Callable[[StreamEnd, Any], dict[str, Any]],
    ) -> None:
        for stream in self._source.ends():
            first = progress.position.streams.get(stream.partition_id, stream.start_offset)
            if first >= stream.next_offset:
                continue
            files = self._write(
                progress.data_set,
                read(progress.position, stream, first),
                _named_by_offset(f"stream{stream.partition_id}"),
                partial(more, stream),
            )
            for path, last in files:
                progress.add(path, progress.position.behind(stream.partition_id, _last_offset(last) + 1))
            progress.position = progress.position.behind(stream.partition_id, stream.next_offset)

    def _export_rescored(self, progress: "_Unfinished") -> None:
        """The predictions that ended jobs wrote of records which were exported before."""
        for job in self._source.ended_jobs():
            if job in progress.position.jobs:
                continue
            paths = []
            for stream in self._source.ends():
                end = progress.position.streams.get(stream.partition_id, stream.start_offset)
                files = self._write(
                    progress.data_set,
                    self._source.rescored(stream._replace(next_offset=end), job),
                    _named_by_offset(f"job{job}-stream{stream.partition_id}"),
                    self._adapters.of,
                )
                paths += [path for path, _ in files]
            progress.add_all(
                paths, progress.position.model_copy(update={"jobs": (*progress.position.jobs, job)})
            )

    def _export_labels(self, progress: "_Unfinished") -> None:
        position = progress.position
        settled = self._source.settled_transaction(position.transaction)
        batches = self._source.labels(position.transaction, position.label, settled)
        files = self._write(
            progress.data_set, batches, lambda batch: f"label{_first(batch, 'label_id')}", lambda _: {}
        )
        for path, last in files:
            transaction, label = _last(last, "transaction"), _last(last, "label_id")
            moved = {"transaction": transaction, "label": label}
            progress.add(path, progress.position.model_copy(update=moved))

    def _write(
        self,
        data_set: DataSet,
        batches: Iterator[Any],
        name_of: Callable[[Any], str],
        more: Callable[[Any], dict[str, Any]],
    ) -> Iterator[tuple[str, Any]]:
        """Write batches into files; the path of each file when it is whole, and the last rows in it."""
        cut = _cut(batches, data_set.day, name_of, self._rows_a_file)
        for path, pieces in groupby(cut, key=itemgetter(0)):
            last = None
            with parquet_rows(data_set, self._target.writing(data_set.name, path)) as file:
                for _, last in pieces:
                    if self._stopping.is_set():
                        raise ReviewLoopError("The export was stopped: the next one goes on from here.")
                    file.add(in_columns_of(data_set, last, **more(last)))
                    self._rows += last.num_rows
                    self._on_rows(self._rows)
            yield path, last


class _Unfinished:
    """The position of everything that was written, and what of it is committed."""

    def __init__(
        self,
        target: Target,
        lock: ExportLock,
        name: DataSetName,
        before: ExportPosition | None,
        identity: str,
    ) -> None:
        self.data_set = ALL[name]
        self.position = before or ExportPosition(database=identity)
        self.files = 0
        self._target = target
        self._lock = lock
        self._committed = before
        self._pending: list[str] = []

    def add(self, path: str, position: ExportPosition) -> None:
        """A file was written, up to this position."""
        self.add_all([path], position)

    def add_all(self, paths: list[str], position: ExportPosition) -> None:
        """Files were written, up to this position; they are committed together."""
        self._pending += paths
        self.files += len(paths)
        self.position = position
        if len(self._pending) >= self._target.files_a_commit:
            self.commit()

    def commit(self) -> None:
        """Commit what is not committed yet."""
        if self.position == self._committed and not self._pending:
            return
        self._lock.require_held()
        self._target.commit(self.data_set.name, self._pending, self.position)
        self._committed, self._pending = self.position, []


@contextmanager
def parquet_rows(data_set: DataSet, writing: Any) -> Iterator["RowGroups"]:
    """A Parquet file in the columns of a data set.

    Args:
        data_set: Which.
        writing: A context whose stream becomes the file.
    """
    with (
        writing as stream,
        parquet.ParquetWriter(
            stream,
            data_set.schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=list(data_set.repeating),
            store_schema=False,  # readers see plain Parquet types
        ) as writer,
    ):
        groups = RowGroups(writer)
        yield groups
        groups.flush()


class RowGroups:
    """Batches gathered into row groups of a useful size, in bounded memory."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self._batches: list[Any] = []
        self._rows = self._bytes = 0

    def add(self, batch: Any) -> None:
        """Add rows; they are written once there are enough of them."""
        self._batches.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._rows >= _ROWS_A_GROUP or self._bytes >= _BYTES_A_GROUP:
            self.flush()

    def flush(self) -> None:
        """Write what was added."""
        if self._batches:
            self._writer.write_table(pa.Table.from_batches(self._batches), row_group_size=self._rows)
        self._batches, self._rows, self._bytes = [], 0, 0


def _cut(
    batches: Iterator[Any], day_column: str, name_of: Callable[[Any], str], rows_a_file: int
) -> Iterator[tuple[str, Any]]:
    """Pieces of batches with the paths of their files: one file a day, or several where it has many rows."""
    path, day, rows = "", "", 0
    for batch in batches:
        for its_day, piece in _days(batch, day_column):
            if its_day != day or rows >= rows_a_file:
                day, rows = its_day, 0
                path = f"day={day}/{name_of(piece)}.parquet"
            rows += piece.num_rows
            yield path, piece


def _days(batch: Any, column: str) -> Iterator[tuple[str, Any]]:
    """The rows of a batch in their order, cut where the day (UTC) changes."""
    if not batch.num_rows:
        return
    days = batch.column(column).cast(pa.int64()).to_numpy() // _DAY_MICROSECONDS
    starts = [0, *(np.flatnonzero(np.diff(days)) + 1).tolist(), len(days)]
    for start, end in pairwise(starts):
        day = (_EPOCH + timedelta(days=int(days[start]))).date()
        yield day.isoformat(), batch.slice(start, end - start)


def _named_by_offset(prefix: str) -> Callable[[Any], str]:
    return lambda batch: f"{prefix}-offset{int(records_of(batch)[0]) & MAX_OFFSET}"


def _last_offset(batch: Any) -> int:
    return int(records_of(batch)[-1]) & MAX_OFFSET


def _first(batch: Any, column: str) -> int:
    return int(batch.column(column)[0].as_py())


def _last(batch: Any, column: str) -> int:
    return int(batch.column(column)[batch.num_rows - 1].as_py())
