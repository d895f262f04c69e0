"""Queries of scored reviews, the latest scored first."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, select

from storage.database import Database
from storage.plans import FOR_A_FEW, read_few, read_rows
from storage.queries.filters import ReviewFilter, conditions, index_conditions
from storage.queries.label_counts import COUNTED_AT_ONCE, count_matching
from storage.schema.views import scored_reviews

_NEWEST = 2_000
SEARCHED_AT_ONCE = 50_000
"""So many texts are read in one step where no index finds a part of them."""
SEARCHED_AT_MOST = 2_000_000
"""The latest so many texts are read, unless all shall be."""
_NEVER, _EVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
PUBLIC_COLUMNS = [column for column in scored_reviews.c if column.name not in {"adapter_id", "record"}]


def find_reviews(
    database: Database, wanted: ReviewFilter, *, given_up: Callable[[datetime], None] | None = None
) -> Iterator[dict[str, Any]]:
    """The current scored reviews that match, the latest scored first.

    Args:
        database: Where.
        wanted: Which reviews.
        given_up: Where no index finds a part of a text, every text has to be read. If this is set, only the
            latest :data:`SEARCHED_AT_MOST` are, and where there are more, it is told the moment since which
            all were searched.

    Yields:
        One mapping per review and task with the columns of the view ``scored_reviews``.
    """
    query = select(*PUBLIC_COLUMNS).where(*conditions(database, wanted))
    by_index = index_conditions(database, wanted)
    if wanted.limit is not None and by_index is not None:
        yield from _find_by_index(database, query, by_index, wanted.limit)
    elif wanted.text is not None and _is_long(database, wanted):
        yield from _search(database, query, wanted, given_up)
    else:
        yield from read_rows(database, query.order_by(scored_reviews.c.scored_at.desc()), wanted.limit)


def _find_by_index(
    database: Database, query: Select[Any], by_index: list[ColumnElement[bool]], limit: int
) -> list[dict[str, Any]]:
    """Frequent values are in the newest reviews, rare ones in the index; the planner cannot tell which."""
    newest = query.where(scored_reviews.c.scored_at >= start_of_newest(database))
    found = list(read_rows(database, newest.order_by(scored_reviews.c.scored_at.desc()), limit))
    if len(found) == limit:
        return found
    # A sum is in no index's order, so that PostgreSQL does not walk back in time for what is rare.
    latest_first = (scored_reviews.c.scored_at + timedelta(0)).desc()
    return list(read_rows(database, query.where(*by_index).order_by(latest_first), limit))


def _is_long(database: Database, wanted: ReviewFilter) -> bool:
    """Whether the texts of very many reviews have to be read."""
    others = conditions(database, replace(wanted, text=None))
    return count_matching(database, FOR_A_FEW, others, COUNTED_AT_ONCE).total() == COUNTED_AT_ONCE


def _search(
    database: Database,
    query: Select[Any],
    wanted: ReviewFilter,
    given_up: Callable[[datetime], None] | None,
) -> Iterator[dict[str, Any]]:
    """Back in time, so many texts in each step, until there are enough matches."""
    scored_at, left = scored_reviews.c.scored_at, wanted.limit
    before, first = wanted.until or _EVER, wanted.since or _NEVER
    searched = 0
    while before > first and left != 0:
        if given_up is not None and searched >= SEARCHED_AT_MOST:
            given_up(before)
            return
        searched += SEARCHED_AT_ONCE
        start = max(first, start_of_newest(database, before, SEARCHED_AT_ONCE))
        step = query.where(scored_at >= start, scored_at < before).order_by(scored_at.desc())
        for row in read_rows(database, step, 2 * SEARCHED_AT_ONCE if left is None else left):
            left = None if left is None else left - 1
            yield row
        before = start


def start_of_newest(database: Database, before: datetime | None = None, newest: int = _NEWEST) -> datetime:
    """When the newest few began. Asked apart, so that the planner knows how few reviews come after it.

    And asked of the view: a reader may not look behind it.

    Args:
        database: Where.
        before: Of those that were scored until then; None for all.
        newest: How many.
    """
    query = select(scored_reviews.c.scored_at).order_by(scored_reviews.c.scored_at.desc())
    if before is not None:
        query = query.where(scored_reviews.c.scored_at <= before)
    found = read_few(database, query.offset(newest).limit(1))
    return found[0].scored_at if found else _NEVER
