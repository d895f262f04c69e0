"""Writes ranges to the database: waits for outages, and isolates a record that it rejects.

Infrastructure is waited for, for ever (I8). What fails for its own sake would fail for ever too, and stop the
partition for good. So a batch that the database refuses is stored in halves, each its own transaction that
continues the one before it (I1, I2), down to the record at fault, which becomes a dead letter (I4).

A statement that takes too long may be either. It is tried twice, then in halves. A single record becomes a
dead letter only if this sequence is seen: a harmless stand-in could be stored (rehearsed and rolled back),
the record failed, and a stand-in could be stored again. If the stand-in times out too, the database is busy:
the writer waits and tries again. If the stand-in is refused, the tables are at fault (:class:`Unstorable`).
"""

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import structlog

from consumer.measures import Measures
from reviews.errors import Exhausted, Unavailable, Unstorable
from reviews.retry import Retry, backoff_seconds
from reviews.stream_records import PartitionRange, StorableT
from storage.stream.stream_writer import StreamWriter, Written

log = structlog.get_logger()

_TIME_OUTS = 2
_FOR_EVER = None  # a dead letter is small: what holds it up is the database
_TIMED_OUT = "statement_timeout"

_Result = TypeVar("_Result")
_Ranges = Sequence[PartitionRange[StorableT]]


class RetryingWriter(Generic[StorableT]):
    """Writes until the database has taken everything.

    Args:
        writer: Stores ranges; each call is one transaction.
        measures: Where failed attempts are counted.
        stopping: Ends the waiting.
        retry_max_seconds: The longest pause between two attempts.
    """

    def __init__(
        self,
        writer: StreamWriter[StorableT],
        measures: Measures,
        stopping: threading.Event,
        retry_max_seconds: float,
    ) -> None:
        self._writer = writer
        self._stopping = stopping
        self._retry_max_seconds = retry_max_seconds
        self._retry = Retry(
            "database_unavailable",
            "database_back",
            longest_seconds=retry_max_seconds,
            wait=stopping.wait,
            note=measures.noting("database", by="store"),
        )

    def write(self, ranges: _Ranges[StorableT]) -> Written[StorableT]:
        """Store the ranges, in as many transactions as it takes.

        A commit whose answer was lost shows as a lost compare-and-set. What follows in a partition that was
        lost is not written.

        Raises:
            Unavailable: If it is told to stop while the database is unavailable.
            Unstorable: If the database refuses a plain record as well.
        """
        try:
            return self._patiently(self._writer.write, ranges, _TIME_OUTS)
        except Unstorable as err:
            return self._write_parts(ranges, err)

    def _write_parts(self, ranges: _Ranges[StorableT], err: Unstorable) -> Written[StorableT]:
        halves = halve(ranges)
        if halves is None:
            return self._write_alone(ranges[0], err)
        log.info("batch_divided", records=_count(ranges), reason=err.reason)
        done = Written[StorableT]([], frozenset())
        for half in halves:
            left = [part for part in half if part.partition_id not in done.lost]
            if left:
                written = self._write_half(left)
                done = Written(done.ranges + written.ranges, done.lost | written.lost)
        return done

    def _write_half(self, ranges: _Ranges[StorableT]) -> Written[StorableT]:
        try:
            return self._patiently(self._writer.write, ranges, 1 if _count(ranges) > 1 else _TIME_OUTS)
        except Unstorable as err:
            return self._write_parts(ranges, err)

    def _write_alone(self, part: PartitionRange[StorableT], err: Unstorable) -> Written[StorableT]:
        """One record: stored after all where the database was busy, else as a dead letter."""
        pauses = backoff_seconds(self._retry_max_seconds)
        has_failed_after_plain = False
        while not ((takes_plain := self._takes_plain(part, err)) and has_failed_after_plain):
            if not takes_plain and self._stopping.wait(next(pauses)):
                raise Unavailable(str(err), "database")
            try:
                return self._patiently(self._writer.write, [part], 1 if takes_plain else _TIME_OUTS)
            except Unstorable as again:
                err, has_failed_after_plain = again, takes_plain
        refused = part.refused(err.reason, err.explanation)
        log.warning("record_refused", partition_id=part.partition_id, reason=err.reason)
        try:
            return self._patiently(self._writer.write, [refused], _FOR_EVER)
        except Unstorable as again:  # not even its bytes can be stored
            shortened = refused.refused(again.reason, again.explanation)
            return self._patiently(self._writer.write, [shortened], _FOR_EVER)

    def _takes_plain(self, part: PartitionRange[StorableT], err: Unstorable) -> bool:
        """Whether the database takes a plain record in the place of this one; False while it is busy.

        Raises:
            Unstorable: If it refuses that as well.
        """
        try:
            self._patiently(self._writer.rehearse, [part.stand_in()], 1)
        except Unstorable as plain:
            if plain.reason == _TIMED_OUT:
                return False
            raise Unstorable(
                f"{err} A plain record is refused as well: look at the tables' triggers, indexes and limits.",
                plain.reason,
                plain.explanation,
            ) from plain
        return True

    def _patiently(
        self,
        do: Callable[[_Ranges[StorableT]], _Result],
        ranges: _Ranges[StorableT],
        time_outs: int | None,
    ) -> _Result:
        """What the database answers, once it does.

        Raises:
            Unstorable: If the values are refused, or it took too long so often.
        """
        try:
            return self._retry(lambda: do(ranges), time_outs=time_outs)
        except Exhausted as err:
            if self._stopping.is_set():
                raise
            explanation = (
                "The database could not store this record in the time and memory that a statement may take."
            )
            raise Unstorable(str(err), _TIMED_OUT, explanation) from err


def halve(ranges: _Ranges[StorableT]) -> tuple[_Ranges[StorableT], _Ranges[StorableT]] | None:
    """Two parts to be stored one after the other; None where there is but one record."""
    if len(ranges) > 1:
        middle = len(ranges) // 2
        return ranges[:middle], ranges[middle:]
    offsets = ranges[0].offsets()
    if len(offsets) < 2:
        return None
    first, second = ranges[0].split_at(offsets[len(offsets) // 2])
    return [first], [second]


def _count(ranges: _Ranges[StorableT]) -> int:
    return sum(len(part.offsets()) for part in ranges)
