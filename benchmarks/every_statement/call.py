"""A call that sends statements, and what the calls of all areas share."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, NamedTuple

from reviews.slices import SliceShares
from storage.database import Database

TASK = "sentiment"
SHARES = SliceShares()
DAY = timedelta(days=1)


class Call(NamedTuple):
    """A call that sends statements.

    Attributes:
        name: What it does.
        run: Does it.
        seconds: It may take so long, however much is stored.
    """

    name: str
    run: Callable[[], object]
    seconds: float = 1.0


def first_rows(rows: Iterator[Any]) -> None:
    """Read a hundred rows of many, and no more."""
    for _ in range(100):
        next(rows, None)
    rows.close()  # type: ignore[attr-defined]  # a generator


def value_of(database: Database, statement: str) -> Any:
    """The first value of a query's first row."""
    with database.engine.connect() as connection:
        return connection.exec_driver_sql(statement).scalar()
