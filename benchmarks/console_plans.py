"""Which statements are sent, and whether PostgreSQL would read a big table from end to end."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, event

from benchmarks.sent_statements import Sent
from storage.database import Database

# What grows with the stream, or with what people say of it.
BIG_TABLES = frozenset(
    {
        "review", "prediction", "prediction_history", "dead_letter", "embedding", "label", "label_task",
        "label_action", "label_skip", "waiting_label", "withdrawal", "training_item", "stream_gap",
        "rescore_range",
    }
)  # fmt: skip
_READS = ("SELECT", "WITH")
_EXPLAINED = (*_READS, "INSERT", "UPDATE", "DELETE")
_AVOIDED = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin")
_NEEDS_EVERYTHING = frozenset(
    {"Sort", "Aggregate", "Hash", "WindowAgg", "Materialize"}
)  # before its first row
_MOST, _WINDOW = 0.5, 6_000  # of a table's rows, and the most that a page may look at by design

_Plan = dict[str, Any]


@dataclass
class Recorded:
    """The distinct reading statements that a console sent.

    Attributes:
        statements: The values that each was sent with last.
    """

    statements: dict[str, Any] = field(default_factory=dict)

    def note(self, _connection: Connection, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        """Called by SQLAlchemy ahead of each statement."""
        if statement.lstrip().upper().startswith(_READS) and "FOR UPDATE" not in statement:
            self.statements[statement] = values


@contextmanager
def recorded(database: Database) -> Iterator[Recorded]:
    """Record what is sent to a database."""
    found = Recorded()
    event.listen(database.engine, "before_cursor_execute", found.note)
    try:
        yield found
    finally:
        event.remove(database.engine, "before_cursor_execute", found.note)


def big_scans(database: Database, found: Recorded) -> list[str]:
    """The statements whose plan reads a big table from end to end, a line for each table and statement."""
    return _scans(database, found, (), _sequential)


def unindexed(database: Database, found: Recorded) -> list[str]:
    """The same for a database that is too small for its plans to be those of a large one.

    PostgreSQL rightly reads a table of a few pages from end to end. Here it is told to avoid that at any
    price, and to look each row up: what then still reads all of a table, would do so however large it is.
    """
    return _scans(database, found, _AVOIDED, _whole)


def unbounded(database: Database, sent: Iterable[Sent]) -> list[str]:
    """As :func:`unindexed`, of statements that also write: a line for each table and statement.

    Of what a cursor reads step by step, each step has to read what it returns and no more.
    """
    lines = []
    with database.begin() as connection:
        sizes = _sizes(connection)
        for name in _AVOIDED:
            connection.exec_driver_sql(f"SET LOCAL {name} = off")
        for one in sent:
            if one.statement.lstrip().upper().startswith(_EXPLAINED):
                with connection.begin_nested() as point:
                    for setting in one.settings:
                        connection.exec_driver_sql(setting)
                    plan = _plan(connection, one.statement, one.values)
                    point.rollback()
                tables = _whole(plan, sizes, is_limited=one.is_streamed) & BIG_TABLES
                words = " ".join(one.statement.split())
                lines += [f"{table}: {words[:80]} … {words[-300:]}" for table in sorted(tables)]
    return lines


def _scans(
    database: Database,
    found: Recorded,
    avoided: Sequence[str],
    read_whole: Callable[[_Plan, Mapping[str, float]], set[str]],
) -> list[str]:
    lines = []
    with database.begin() as connection:
        sizes = _sizes(connection)
        for name in avoided:
            connection.exec_driver_sql(f"SET LOCAL {name} = off")
        for statement, values in found.statements.items():
            words = " ".join(statement.split())[:400]
            # Of a table without rows, any plan is as good as another.
            filled = {table for table in BIG_TABLES if sizes.get(table, 0) > 0}
            tables = read_whole(_plan(connection, statement, values), sizes) & filled
            lines += [f"{table}: {words}" for table in sorted(tables)]
    return lines


def _plan(connection: Connection, statement: str, values: Any) -> _Plan:
    given = values[0] if isinstance(values, list) else values  # of many rows at once, the first
    answer = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", given).scalar_one()
    plan: _Plan = (json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"]
    return plan


def _sequential(plan: _Plan, sizes: Mapping[str, float]) -> set[str]:
    own = {plan["Relation Name"]} if plan["Node Type"] == "Seq Scan" else set()
    return own.union(*(_sequential(inner, sizes) for inner in plan.get("Plans", [])))


def _whole(plan: _Plan, sizes: Mapping[str, float], *, is_limited: bool = False) -> set[str]:
    """Tables of which every row is read, or most of them, by whatever kind of scan.

    Args:
        plan: A node.
        sizes: How many rows each table has.
        is_limited: Whether what is above it stops when it has enough.
    """
    kind, table = plan["Node Type"], plan.get("Relation Name", "")
    is_without_condition = kind.startswith("Index") and "Index Cond" not in plan
    is_most = kind.endswith("Scan") and plan["Plan Rows"] > max(_WINDOW, _MOST * sizes.get(table, _WINDOW))
    is_first_rows = is_limited and "Filter" not in plan
    reads_all = (kind == "Seq Scan" and not is_first_rows) or (
        not is_limited and (is_without_condition or is_most)
    )
    passes_on = (is_limited or kind == "Limit") and kind not in _NEEDS_EVERYTHING
    # For EXISTS in a list of columns PostgreSQL keeps two plans, and reads all of a small table alone.
    plans = plan.get("Plans", [])
    inners = [inner for inner in plans if not inner.get("Subplan Name", "").startswith("hashed")]
    below = [_whole(inner, sizes, is_limited=passes_on) for inner in inners]
    return ({table} if reads_all else set()).union(*below)


def _sizes(connection: Connection) -> dict[str, float]:
    query = "SELECT relname, reltuples FROM pg_class WHERE relkind = 'r'"
    return dict(connection.exec_driver_sql(query).all())
