"""Takes erased reviews out of what was exported before.

Every file is searched by the hashes of the erased ids, because an export also keeps what retention deleted in
the database. Files that hold one are written anew without it. A target remembers the erasures that it has
had; killed before that, the next run searches all files again, and finds what is left.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from threading import Event
from typing import Any, NamedTuple, Protocol

import numpy as np
import structlog
from pyarrow import parquet

from reviewloop.export.data_sets import ALL, DataSet, in_columns_of, records_of
from reviewloop.export.exporter import Target, parquet_rows
from reviews.erasure import erased_hash
from reviews.errors import ReviewLoopError
from reviews.export import DATA_SETS, DataSetName
from storage.exporting import ExportLock
from storage.lifecycle.exported import ExportErasure, ExportErasures

log = structlog.get_logger()

_ROWS_AT_ONCE = 64 << 10
_BY_ID = ["record", "review_id", "received_at"]
_NONE = -1


class ErasableTarget(Target, Protocol):
    """A target whose files can be replaced."""

    def has(self, data_set: DataSetName) -> bool:
        """Whether there may be files of a data set."""

    def applied(self) -> frozenset[datetime]:
        """The erasures that the target has had, by when they were asked for."""

    def set_applied(self, erasures: frozenset[datetime]) -> None:
        """Remember them."""

    def days(self, data_set: DataSetName) -> Iterator[tuple[str, list[str]]]:
        """The files of each day: its name such as ``day=2026-05-01``, and their paths."""

    def reading(self, data_set: DataSetName, path: str) -> Any:
        """A context whose stream reads a file."""

    def rewriting(self, data_set: DataSetName, path: str) -> Any:
        """A context whose stream becomes the file that is to replace one."""

    def replace(self, data_set: DataSetName, path: str) -> None:
        """Put what was written by :meth:`rewriting` in the place of a file."""

    def purge(self, data_set: DataSetName) -> None:
        """Remove what was replaced, wherever the target keeps it."""


class ErasedPart(NamedTuple):
    """What an erasure took out of a day's files.

    Attributes:
        data_set: Of which data set.
        day: The day (UTC).
        files: How many files were written anew.
        rows: How many rows were left out.
    """

    data_set: DataSetName
    day: str
    files: int
    rows: int


class ExportEraser:
    """Applies erasures to a target.

    Args:
        target: Where the files are.
        erasures: Which there are, and their receipts.
        lock: Keeps exports away from the target.
        stopping: Ends it at the next file.
    """

    def __init__(
        self, target: ErasableTarget, erasures: ExportErasures, lock: ExportLock, stopping: Event
    ) -> None:
        self._target = target
        self._erasures = erasures
        self._lock = lock
        self._stopping = stopping

    def run(self) -> Iterator[ErasedPart]:
        """Take out what the target has not had yet; each day's part, once it is done.

        Raises:
            Unavailable: If the database does not answer.
            ReviewLoopError: If the target cannot be read or written, or somebody stopped this.
        """
        applied = self._target.applied()
        erasures = self._erasures.to_apply(applied)
        if not erasures:
            return
        if not self._erasures.can_note():
            detail = "A replica keeps no receipts: run 'export --erase' against the primary."
            log.warning("exported_erasures_wait", erasures=len(erasures), detail=detail)
            return
        rows = _ErasedRows(erasures)
        for name in DATA_SETS:  # reviews come first: they tell the records
            if self._target.has(name):
                self._target.position(name)  # completes what a killed export left
                yield from self._erase(ALL[name], rows)
                self._target.purge(name)
        self._erasures.settle([one.id for one in erasures])
        self._lock.require_held()
        self._target.set_applied(applied | {one.requested_at for one in erasures})

    def _erase(self, data_set: DataSet, rows: "_ErasedRows") -> Iterator[ErasedPart]:
        for day, paths in self._target.days(data_set.name):
            found = {path: self._count(data_set, path, rows) for path in paths}
            total = sum(found.values(), Counter())
            for erasure, count in total.items():
                self._erasures.note(erasure, f"{data_set.name}/{day}", count)
            held = [path for path, counts in found.items() if counts]
            for path in held:
                self._rewrite(data_set, path, rows)
            if held:
                yield ErasedPart(data_set.name, day.removeprefix("day="), len(held), total.total())

    def _count(self, data_set: DataSet, path: str, rows: "_ErasedRows") -> "Counter[int]":
        """How many rows of each erasure a file holds."""
        if self._stopping.is_set():
            raise ReviewLoopError("It was stopped: the next export goes on with the erasures.")
        counts: Counter[int] = Counter()
        with self._target.reading(data_set.name, path) as stream, parquet.ParquetFile(stream) as file:
            if data_set.name == "predictions":
                batches = file.iter_batches(_ROWS_AT_ONCE, rows.groups_of(file.metadata), ["record"])
            else:
                batches = file.iter_batches(_ROWS_AT_ONCE, columns=_BY_ID)
            for batch in batches:
                counts.update(one for one in rows.of(batch).tolist() if one != _NONE)
        return counts

    def _rewrite(self, data_set: DataSet, path: str, rows: "_ErasedRows") -> None:
        with (
            self._target.reading(data_set.name, path) as stream,
            parquet.ParquetFile(stream) as file,
            parquet_rows(data_set, self._target.rewriting(data_set.name, path)) as kept,
        ):
            missing = {field: None for field in data_set.schema.names if field not in file.schema_arrow.names}
            for batch in file.iter_batches(_ROWS_AT_ONCE):
                left = batch.filter(rows.of(batch) == _NONE)
                if left.num_rows:
                    kept.add(in_columns_of(data_set, left, **missing))
        self._lock.require_held()
        self._target.replace(data_set.name, path)


class _ErasedRows:
    """Which rows of a batch are of which erasure."""

    def __init__(self, erasures: Sequence[ExportErasure]) -> None:
        self._by_hash: dict[bytes, list[ExportErasure]] = defaultdict(list)
        self._by_record = {record: one.id for one in erasures for record in one.records}
        for one in erasures:
            for each in one.hashes:
                self._by_hash[each].append(one)

    def groups_of(self, metadata: Any) -> list[int]:
        """The row groups of a file whose span of records has an erased one."""
        records = np.array(sorted(self._by_record), np.int64)
        found = []
        for group in range(metadata.num_row_groups):
            span = metadata.row_group(group).column(0).statistics
            if span is None or not span.has_min_max or _has_within(records, span.min, span.max):
                found.append(group)
        return found

    def of(self, batch: Any) -> "np.ndarray[Any, np.dtype[np.int64]]":
        """int64 (rows): the number of the erasure that a row is of; -1 for the others."""
        records = records_of(batch).tolist()
        found = np.array([self._by_record.get(one, _NONE) for one in records], np.int64)
        if "review_id" in batch.schema.names:
            ids, received_at = batch.column("review_id"), batch.column("received_at")
            for place, review_id in enumerate(ids.to_pylist()):
                if review_id is not None and (these := self._by_hash.get(erased_hash(review_id))):
                    moment = received_at[place].as_py()
                    for one in these:
                        if one.is_before(records[place], moment):
                            found[place] = self._by_record[records[place]] = one.id
        return found


def _has_within(ordered: Any, least: int, greatest: int) -> bool:
    return bool(np.searchsorted(ordered, least) < np.searchsorted(ordered, greatest, "right"))
