"""Gives the room of deleted rows back to the disk, beside running workers and without an extension.

After a vacuum new rows use that room, so that a table whose rows come and go keeps its size. That is what
happens every night. A file only gets shorter at its end, and the oldest rows are at its beginning. So the
last rows are moved into the free room, a few pages at a time, until a vacuum can cut off the empty end.
Indexes are made anew beside the old ones.
"""

from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy import Connection, text

from storage.database import Database, without_transaction

MOVED_TABLES = ("review", "prediction")
"""The two tables that may be worth it."""
_PAGES_AT_ONCE = 16
_LEAST_SHARE = 0.05  # less room is not worth the work
_PAGE_BYTES = 8192
_PAGE_ROOM_BYTES = 8168
_POINTER_BYTES = 4
_SPARE = 1.02
_MOST_ROUNDS = 8

_FILL = text("""
SELECT pg_relation_size(to_regclass(:table)) / :page_bytes AS pages, c.reltuples AS rows
  FROM pg_class c WHERE c.oid = to_regclass(:table)
""")
_INDEXES = text("""
SELECT i.indexrelid::regclass::text FROM pg_index i
 WHERE i.indrelid = to_regclass(:table) AND i.indisvalid ORDER BY 1
""")


class MovePlan(NamedTuple):
    """Which end of a file is to be emptied.

    Attributes:
        pages: How many pages the file has.
        first: From which page on its rows are moved; equal to ``pages`` where it is not worth it.
    """

    pages: int
    first: int


def plan_move(connection: Connection, table: str) -> MovePlan:
    """What of a vacuumed table's file is more than its rows need."""
    fill = connection.execute(_FILL, {"table": table, "page_bytes": _PAGE_BYTES}).one()
    sample = f"SELECT avg(pg_column_size(t.*)) FROM (SELECT * FROM {table} LIMIT 10000) t"  # noqa: S608  ours
    width = connection.execute(text(sample)).scalar()
    if width is None or fill.rows <= 0:
        return MovePlan(fill.pages, fill.pages)
    a_page = max(1, int(_PAGE_ROOM_BYTES / (float(width) + _POINTER_BYTES)))
    first = min(fill.pages, int(fill.rows / a_page * _SPARE) + 1)
    return MovePlan(fill.pages, first if fill.pages - first > _LEAST_SHARE * fill.pages else fill.pages)


def move_pages(connection: Connection, table: str, first: int, end: int) -> int:
    """Write the rows of these pages anew, which puts them into free room; how many.

    Args:
        connection: In a transaction.
        table: One of :data:`MOVED_TABLES`.
        first: The first page.
        end: The page behind the last.
    """
    statement = text(
        f"UPDATE {table} SET record = record "  # noqa: S608  a name of ours
        "WHERE ctid >= CAST(:first AS tid) AND ctid < CAST(:end AS tid)"
    )
    given = {"first": f"({first},0)", "end": f"({end},0)"}
    moved = connection.execute(statement, given).rowcount
    # A page with room of its own takes its rows in again, until that is used up.
    for _ in range(_MOST_ROUNDS):
        if not connection.execute(statement, given).rowcount:
            break
    return moved


def pieces(plan: MovePlan) -> list[tuple[int, int]]:
    """The pages of a plan in small pieces, the last one first."""
    ends = range(plan.pages, plan.first, -_PAGES_AT_ONCE)
    return [(max(plan.first, end - _PAGES_AT_ONCE), end) for end in ends]


def renew_indexes(database: Database, table: str, before_each: Callable[[], None]) -> None:
    """Make a table's indexes anew, one by one, while others read and write; the old ones go afterwards.

    Args:
        database: Where to; its user has to own the table.
        table: One of :data:`MOVED_TABLES`.
        before_each: Called before each index.

    Raises:
        ReviewLoopError: If the user may not do this.
    """
    for index in database.fetch_values(_INDEXES, {"table": table}):
        before_each()
        with without_transaction(database, waits=True) as connection:
            connection.exec_driver_sql(f"REINDEX INDEX CONCURRENTLY {index}")
