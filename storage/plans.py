"""Plans: what a transaction tells PostgreSQL's planner where its estimates lead to slow plans."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Executable, Select, text

from storage.database import AnyRow, Database

# Rows by their keys: the planner expects rows of a list of keys far apart, and would read whole tables.
BY_INDEX = text(
    "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), "
    "set_config('enable_mergejoin', 'off', true), set_config('max_parallel_workers_per_gather', '0', true), "
    "set_config('random_page_cost', '1.1', true), set_config('jit', 'off', true)"
)
# Rare and frequent values need different plans. Helpers take longer to start than such a query takes. Rows
# here and there, in memory or on a disk without a moving head, are cheaper than the planner expects.
FOR_A_FEW = text(
    "SELECT set_config('plan_cache_mode', 'force_custom_plan', true), "
    "set_config('max_parallel_workers_per_gather', '0', true), "
    "set_config('random_page_cost', '1.1', true)"
)


def read_few(database: Database, query: Executable) -> Sequence[AnyRow]:
    """The rows of a query that has few of them, in a transaction of its own."""
    with database.begin() as connection:
        connection.execute(FOR_A_FEW)
        return connection.execute(query).all()


def read_rows(database: Database, query: Select[Any], limit: int | None) -> Iterator[dict[str, Any]]:
    """The rows of a query as mappings: at most so many, or all of them, one after another.

    Few are read without a cursor: PostgreSQL plans a cursor to have its first tenth soon, and may scan
    everything for what an index finds at once. And nothing is held while somebody reads.
    """
    rows = database.stream(query) if limit is None else read_few(database, query.limit(limit))
    for row in rows:
        yield row._asdict()
