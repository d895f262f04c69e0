"""Pages of scored reviews: each continues where the last one ended, and looks at a bounded number of rows.

The latest scored come first. Thousands of reviews are scored in one moment; with their records the order is
total. Reviews that are stored meanwhile come before the first page, so that no page repeats or leaves out a
review.

A part of a text is found by the index on texts where there is one, an attribute always by its own. Elsewhere
a page reads the texts of a bounded number of reviews and says how many: the next one goes on behind them.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, func, literal, select, tuple_, union_all

from storage.database import Database
from storage.plans import read_few
from storage.queries.filters import (
    ReviewFilter,
    agreed_label,
    attribute_conditions,
    conditions,
    index_conditions,
)
from storage.queries.reviews import PUBLIC_COLUMNS, start_of_newest
from storage.schema.views import scored_reviews

SEARCHED_TEXTS = 3_000
"""How many texts one page reads where no index finds them."""

_columns = scored_reviews.c
_PLACE = (_columns.scored_at, _columns.record, _columns.task)
_LATEST_FIRST = tuple(column.desc() for column in _PLACE)
_DEFAULT_PAGE = 50


class ReviewPlace(NamedTuple):
    """Where a page ended.

    Attributes:
        scored_at: When its last review was scored (UTC).
        record: The last review's record.
        task: The task of its last row.
    """

    scored_at: datetime
    record: int
    task: str


class ReviewPage(NamedTuple):
    """Some reviews, and where the next ones begin.

    Attributes:
        rows: The columns of the view ``scored_reviews``, with ``record``.
        end: What the next page comes after; None where there is no more.
        searched: How many reviews were searched where the search ended before the page was full; None where
            it did not.
    """

    rows: list[dict[str, Any]]
    end: ReviewPlace | None
    searched: int | None = None


def find_page(database: Database, wanted: ReviewFilter, after: ReviewPlace | None = None) -> ReviewPage:
    """The next reviews that match, the latest scored first.

    Args:
        database: Where from.
        wanted: Which; its limit is the length of the page.
        after: Where the last page ended; None for the first page.
    """
    length = wanted.limit or _DEFAULT_PAGE
    if wanted.text is None and not wanted.attributes:
        return _page(database, _places(database, _matching(database, wanted, after, length)), length)
    by_index = index_conditions(database, wanted)
    if by_index is not None:
        return _page(database, _by_index(database, wanted, by_index, after, length), length)
    return _by_search(database, wanted, after, length)


def _matching(
    database: Database, wanted: ReviewFilter, after: ReviewPlace | None, length: int
) -> Select[Any]:
    """The places alone: what people said of a review is looked up for those that are shown, and no others."""
    query = select(*_PLACE).where(*conditions(database, wanted), *_behind(after))
    return query.order_by(*_LATEST_FIRST).limit(length + 1)


def _behind(after: ReviewPlace | None) -> list[ColumnElement[bool]]:
    if after is None:
        return []
    place = tuple_(*(literal(value, column.type) for value, column in zip(after, _PLACE, strict=True)))
    return [tuple_(*_PLACE) < place]


def _places(database: Database, query: Select[Any]) -> list[ReviewPlace]:
    return [ReviewPlace(*row) for row in read_few(database, query)]


def _page(database: Database, places: Sequence[ReviewPlace], length: int) -> ReviewPage:
    return ReviewPage(_at(database, places[:length]), places[length - 1] if len(places) > length else None)


def _by_index(
    database: Database,
    wanted: ReviewFilter,
    by_index: list[ColumnElement[bool]],
    after: ReviewPlace | None,
    length: int,
) -> list[ReviewPlace]:
    """Frequent values are in the newest reviews, rare ones in the index."""
    query = _matching(database, wanted, after, length)
    newest = _columns.scored_at >= start_of_newest(database, after.scored_at if after else None)
    found = _places(database, query.where(newest))
    if len(found) > length:
        return found
    # A sum is in no index's order, so that PostgreSQL does not walk back in time for what is rare.
    moment = (_columns.scored_at + func.make_interval()).desc()
    rare = query.where(*by_index).order_by(None)
    return _places(database, rare.order_by(moment, *_LATEST_FIRST[1:]))


def _by_search(
    database: Database, wanted: ReviewFilter, after: ReviewPlace | None, length: int
) -> ReviewPage:
    """The texts of so many reviews are read; the search ends there, or when the page is full."""
    candidates = (
        select(*_PLACE, _columns.text, _columns.attributes)
        .where(*conditions(database, replace(wanted, text=None, attributes=())), *_behind(after))
        .order_by(*_LATEST_FIRST)
        .limit(SEARCHED_TEXTS)
        .cte("candidates")
    )
    place = (candidates.c.scored_at, candidates.c.record, candidates.c.task)
    latest_first = [column.desc() for column in place]
    matching = [
        candidates.c.text.icontains(wanted.text, autoescape=True),
        *attribute_conditions(candidates.c.attributes, wanted),
    ]
    found = select(*place, literal(value=True).label("matches")).where(*matching)
    last = select(*place, literal(value=False).label("matches"))
    both = union_all(
        found.order_by(*latest_first).limit(length + 1),
        last.order_by(*latest_first).offset(SEARCHED_TEXTS - 1).limit(1),
    )
    places = read_few(database, both)
    matches = [ReviewPlace(*row[:3]) for row in places if row.matches]
    page = _page(database, matches, length)
    ends = [ReviewPlace(*row[:3]) for row in places if not row.matches]
    return page if page.end or not ends else ReviewPage(page.rows, ends[0], SEARCHED_TEXTS)


def _at(database: Database, places: Sequence[ReviewPlace]) -> list[dict[str, Any]]:
    """The rows at these places, in this order; reviews that got a newer version meanwhile are left out."""
    human = agreed_label().label(_columns.human_label.name)
    shown = [human if column is _columns.human_label else column for column in PUBLIC_COLUMNS]
    query = select(*shown, _columns.record).where(_columns.record.in_([place.record for place in places]))
    rows = [row._asdict() for row in read_few(database, query)]
    found = {(row["record"], row["task"]): row for row in rows}
    return [found[place[1:]] for place in places if place[1:] in found]
