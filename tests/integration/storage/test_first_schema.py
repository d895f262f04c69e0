"""A database of the schema before the first release goes on, and ends as a new one begins."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import SecretStr

from storage import migrate
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.queries.dead_letters import LetterFilter, find_dead_letters
from storage.queries.filters import ReviewFilter
from storage.queries.reviews import find_reviews
from storage.settings import DatabaseSettings

DUMP = Path(__file__).parent / "data" / "schema_0013.sql"

# Everything that pg_dump would write of a schema, a line each.
CATALOG = """
WITH relation AS (
    SELECT c.oid, c.relname, c.relkind, c.reloptions FROM pg_class c
     WHERE c.relnamespace = 'public'::regnamespace
)
SELECT concat_ws(' ', 'relation', relname, relkind, reloptions) FROM relation
 UNION ALL
SELECT concat_ws(' ', 'column', relname, attnum, attname, format_type(atttypid, atttypmod), attnotnull,
                 attidentity, attgenerated, attstorage, attcollation::regcollation,
                 pg_get_expr(adbin, adrelid))
  FROM relation JOIN pg_attribute ON attrelid = relation.oid AND attnum > 0 AND relkind IN ('r', 'v')
  LEFT JOIN pg_attrdef ON adrelid = relation.oid AND adnum = attnum
 UNION ALL
SELECT concat_ws(' ', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(oid))
  FROM pg_constraint WHERE connamespace = 'public'::regnamespace
 UNION ALL
SELECT pg_get_indexdef(indexrelid) FROM pg_index JOIN relation ON relation.oid = indrelid
 UNION ALL
SELECT concat_ws(' ', 'view', relname, pg_get_viewdef(oid)) FROM relation WHERE relkind = 'v'
 UNION ALL
SELECT pg_get_statisticsobjdef(oid) FROM pg_statistic_ext
 UNION ALL
SELECT concat_ws(' ', 'comment', relname, objsubid, description)
  FROM relation JOIN pg_description ON objoid = relation.oid AND classoid = 'pg_class'::regclass
 UNION ALL
SELECT concat_ws(' ', 'sequence', relname, seqtypid::regtype, seqstart, seqincrement, seqmax, seqmin,
                 seqcache)
  FROM relation JOIN pg_sequence ON seqrelid = relation.oid
 UNION ALL
SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
 UNION ALL
SELECT pg_get_triggerdef(t.oid)
  FROM pg_trigger t JOIN relation ON relation.oid = tgrelid WHERE NOT tgisinternal
 ORDER BY 1
"""


@pytest.fixture
def old(empty_database: str) -> Iterator[Database]:
    """A database as the last migration before the first release left it, with a few rows."""
    with closing(Database(DatabaseSettings(url=SecretStr(empty_database)))) as made:
        with made.begin() as connection:
            connection.exec_driver_sql(DUMP.read_text())
        yield made


def _catalog(database: Database) -> list[str]:
    with database.begin() as connection:
        return list(connection.exec_driver_sql(CATALOG).scalars())


def test_an_upgraded_database_has_the_schema_of_a_new_one(old: Database, store: Database):
    migrate.upgrade(old)
    assert migrate.status(old) == migrate.status(store)
    assert _catalog(old) == _catalog(store)
    assert len(_catalog(store)) > 300, "the comparison sees the whole schema"


def test_the_rows_of_an_upgraded_database_are_there(old: Database):
    migrate.upgrade(old)
    (review,) = find_reviews(old, ReviewFilter())
    assert (review["text"], review["human_label"], review["kafka_offset"]) == ("Shrank.", "bad", 1)
    (letter,) = find_dead_letters(old, LetterFilter(), with_raw=True)
    assert (letter["error"], letter["raw"], letter["kafka_offset"]) == ("not_json", b"{", 3)
    serving = AdapterStore(old).active("sentiment")
    assert serving is not None
    assert (serving.version, serving.replaced) == ("sentiment-2", "sentiment-1")
    with old.begin() as connection:
        for table in ("stream_gap", "adapter_file", "training_run", "drift_report"):
            assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() == 1, table
        active = connection.exec_driver_sql("SELECT version, activation_id FROM active_adapter").all()
    assert active == [("sentiment-2", 2)]
