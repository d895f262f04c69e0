"""Ranges into the database, however long it is away, and around the record that it refuses.

Infrastructure is waited for, for ever (I8). What fails for its own sake would fail for ever too, and stop the
partition for good. So a batch that the database refuses is stored in halves, each its own transaction that
continues the one before it (I1, I2), down to the record at fault, which becomes a dead letter (I4).

A statement that takes too long may be either. It is tried twice, then in halves. A record alone is at fault
only if it fails between two plain ones in its place that go in. Otherwise the database was busy, and it is
waited for, or the record goes in as well.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, Self, TypeVar

import structlog

from consumer.measures import Measures
from reviews.errors import Exhausted, Unavailable, Unstorable
from reviews.retry import Retry, backoff_seconds

log = structlog.get_logger()

_TIME_OUTS = 2
_FOR_EVER = None  # a dead letter is small: what holds it up is the database
_TIMED_OUT = "statement_timeout"


class Divisible(Protocol):
    """A range of one partition; ``reviews.batch.PartitionRange`` says what each part does."""

    @property
    def partition_id(self) -> int:
        """The stored id of the partition."""

    def offsets(self) -> list[int]:
        """The offsets of its records."""

    def split_at(self, offset: int, /) -> tuple[Self, Self]:
        """What is before an offset, and the rest."""

    def refused(self, reason: str, message: str, /) -> Self:
        """The same with dead letters."""

    def plain(self) -> Self:
        """The same with plain records."""


Range = TypeVar("Range", bound=Divisible)
Written = TypeVar("Written")
_Range_contra = TypeVar("_Range_contra", bound=Divisible, contravariant=True)
_Written_co = TypeVar("_Written_co", covariant=True)
_Answer = TypeVar("_Answer")


class Writer(Protocol[_Range_contra, _Written_co]):
    """What is needed of ``BatchWriter`` and of ``LabelWriter`` (``storage.stream``)."""

    def write(self, ranges: Sequence[_Range_contra], /) -> _Written_co:
        """Store the ranges in one transaction."""

    def rehearse(self, ranges: Sequence[_Range_contra], /) -> None:
        """The same, taken back at once."""


class PatientWriter(Generic[Range, Written]):
    """Writes until the database has taken everything.

    Args:
        writer: The one transaction.
        lost: The ids of the partitions that a transaction found moved by somebody else.
        measures: Where failed attempts are counted.
        stopping: Ends the waiting.
        retry_max_seconds: The longest pause between two attempts.
    """

    def __init__(
        self,
        writer: Writer[Range, Written],
        lost: Callable[[Written], frozenset[int]],
        measures: Measures,
        stopping: threading.Event,
        retry_max_seconds: float,
    ) -> None:
        self._writer = writer
        self._lost = lost
        self._stopping = stopping
        self._retry_max_seconds = retry_max_seconds
        self._retry = Retry(
            "database_unavailable",
            "database_back",
            longest_seconds=retry_max_seconds,
            wait=stopping.wait,
            note=measures.noting("database", by="store"),
        )

    def write(self, ranges: Sequence[Range]) -> list[tuple[Sequence[Range], Written]]:
        """Store the ranges: the transactions that it took, each with what it was given and what it did.

        A commit whose answer was lost shows as a lost compare-and-set. What follows in a partition that was
        lost is not written.

        Raises:
            Unavailable: If it is told to stop while the database is away.
            Unstorable: If the database refuses a plain record as well.
        """
        try:
            return [(ranges, self._patiently(self._writer.write, ranges, _TIME_OUTS))]
        except Unstorable as err:
            return self._write_parts(ranges, err)

    def _write_parts(self, ranges: Sequence[Range], err: Unstorable) -> list[tuple[Sequence[Range], Written]]:
        halves = halve(ranges)
        if halves is None:
            return self._write_alone(ranges[0], err)
        log.info("batch_divided", records=_count(ranges), reason=err.reason)
        done: list[tuple[Sequence[Range], Written]] = []
        for half in halves:
            lost = {partition for _, written in done for partition in self._lost(written)}
            left = [part for part in half if part.partition_id not in lost]
            time_outs = 1 if _count(left) > 1 else _TIME_OUTS
            try:
                done += [(left, self._patiently(self._writer.write, left, time_outs))] if left else []
            except Unstorable as again:
                done += self._write_parts(left, again)
        return done

    def _write_alone(self, part: Range, err: Unstorable) -> list[tuple[Sequence[Range], Written]]:
        """One record: stored after all where the database was busy, else as a dead letter."""
        pauses = backoff_seconds(self._retry_max_seconds)
        has_failed_after_plain = False
        while not ((takes_plain := self._takes_plain(part, err)) and has_failed_after_plain):
            if not takes_plain and self._stopping.wait(next(pauses)):
                raise Unavailable(str(err), "database")
            time_outs = 1 if takes_plain else _TIME_OUTS
            try:
                return [([part], self._patiently(self._writer.write, [part], time_outs))]
            except Unstorable as again:
                err, has_failed_after_plain = again, takes_plain
        refused = part.refused(err.reason, err.explanation)
        log.warning("record_refused", partition_id=part.partition_id, reason=err.reason)
        try:
            return [([refused], self._patiently(self._writer.write, [refused], _FOR_EVER))]
        except Unstorable as again:  # not even its bytes can be stored
            shortened = refused.refused(again.reason, again.explanation)
            return [([shortened], self._patiently(self._writer.write, [shortened], _FOR_EVER))]

    def _takes_plain(self, part: Range, err: Unstorable) -> bool:
        """Whether the database takes a plain record in the place of this one; False while it is busy.

        Raises:
            Unstorable: If it refuses that as well.
        """
        try:
            self._patiently(self._writer.rehearse, [part.plain()], 1)
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
        self, do: Callable[[Sequence[Range]], _Answer], ranges: Sequence[Range], time_outs: int | None
    ) -> _Answer:
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


def halve(ranges: Sequence[Range]) -> tuple[Sequence[Range], Sequence[Range]] | None:
    """Two parts to be stored one after the other; None where there is but one record."""
    if len(ranges) > 1:
        middle = len(ranges) // 2
        return ranges[:middle], ranges[middle:]
    offsets = ranges[0].offsets()
    if len(offsets) < 2:
        return None
    first, second = ranges[0].split_at(offsets[len(offsets) // 2])
    return [first], [second]


def _count(ranges: Sequence[Range]) -> int:
    return sum(len(part.offsets()) for part in ranges)
