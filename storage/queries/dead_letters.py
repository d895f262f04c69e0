"""Queries of dead letters."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, select

from storage.database import Database
from storage.plans import read_few, read_rows
from storage.queries.filters import matching
from storage.queries.label_counts import COUNTED_AT_ONCE
from storage.schema.views import dead_letters


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which dead letters to return; None means any.

    Attributes:
        error: The reason.
        stage: Where it failed: ``parse``, ``score`` or ``label``.
        topic: The topic that it came from.
        since: Received at or after this moment.
        until: Received before this moment.
        state: ``waiting``, ``replayed``, ``discarded`` or ``superseded``.
        place: Its (topic, partition, offset).
        limit: At most so many, the latest received first; None for all of them.
    """

    error: str | None = None
    stage: str | None = None
    topic: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    state: str | None = "waiting"
    place: tuple[str, int, int] | None = None
    limit: int | None = 20


def find_dead_letters(
    database: Database, wanted: LetterFilter, *, with_raw: bool = False
) -> Iterator[dict[str, Any]]:
    """The dead letters that match, the latest received first.

    Args:
        database: Where from.
        wanted: Which.
        with_raw: Whether value, key and headers are read as well, which may be megabytes.

    Yields:
        One mapping per dead letter with the columns of the view ``dead_letters``.
    """
    columns = [one for one in dead_letters.c if with_raw or one.name not in {"raw", "key", "headers"}]
    query = select(*columns).where(*_letter_conditions(wanted))
    yield from read_rows(database, query.order_by(dead_letters.c.received_at.desc()), wanted.limit)


def count_dead_letters(database: Database, wanted: LetterFilter) -> dict[str, int]:
    """How many dead letters that match have each reason, the most frequent first, up to 200,000."""
    rows = select(dead_letters.c.error).where(*_letter_conditions(wanted)).limit(COUNTED_AT_ONCE).subquery()
    number = func.count()
    query = select(rows.c.error, number).group_by(rows.c.error).order_by(number.desc(), rows.c.error)
    return {row[0]: row[1] for row in read_few(database, query)}


def _letter_conditions(wanted: LetterFilter) -> list[ColumnElement[bool]]:
    columns = dead_letters.c
    topic, partition, offset = wanted.place or (wanted.topic, None, None)
    equal = {
        columns.error: wanted.error,
        columns.stage: wanted.stage,
        columns.state: wanted.state,
        columns.kafka_topic: topic,
        columns.kafka_partition: partition,
        columns.kafka_offset: offset,
    }
    return matching(equal, columns.received_at, wanted.since, wanted.until)
