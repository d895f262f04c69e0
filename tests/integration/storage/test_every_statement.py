"""Every statement of the product, from the source of ``storage``: each is bounded, however much is stored."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from pydantic import SecretStr

from benchmarks.console_data import fill_console, made_up_samples
from benchmarks.console_plans import unbounded
from benchmarks.every_statement.reading import text_index
from benchmarks.every_statement.walk import walk
from benchmarks.sent_statements import Sent, SentStatements, call_sites, recording
from benchmarks.services import connect
from storage.database import Database
from storage.settings import DatabaseSettings
from tests.conftest import _new_database

REVIEWS = 20_000
_WITHDRAWALS = (
    "INSERT INTO withdrawal (record, review_id, kind, received_at, timestamp_ms) "
    "SELECT -n, 'withdrawn-' || n, 'delete', now(), 0 FROM generate_series(1, 5000) AS given (n)"
)
# Lines that no walk over one database reaches, and why.
NOT_REACHED = {
    "_finished_or_removed": "it removes what is left of an index that could not be made",
    "_without_transaction": "it sets time-outs where the server has others",
    "without_transaction": "the same",
    "_finish": "it erases once more what rescoring wrote meanwhile",
    "has_seen": "it looks for the adapter where something was erased",
    "days": "it looks for the versions of an erased review",
    "_clean": "it changes remarks that quote an erased id",
    "clean_reports": "it changes reports with an erased example",
}
# Jobs that look through remarks of people and of programs, all of them, for an erased id.
_LOOKED_THROUGH = "WHERE EXISTS (SELECT FROM unnest(CAST(%(forms)s AS text[])) AS f (form)"


@pytest.fixture(scope="module")
def walked(database_url: str, migrated_template: str) -> Iterator[tuple[Database, SentStatements]]:
    """A filled database, and what was sent to it."""
    with _new_database(database_url, template=migrated_template) as url:
        fill_console(url, REVIEWS, list(made_up_samples()), density=5)
        with connect(url) as connection:
            connection.execute(_WITHDRAWALS)
            connection.execute("ANALYZE withdrawal")
        with closing(Database(DatabaseSettings(url=SecretStr(url)))) as database:
            with recording(database) as found:
                for _ in walk(database):
                    pass
                text_index(database)
            yield database, found


def test_the_walk_reaches_every_line_of_storage_that_sends_a_statement(
    walked: tuple[Database, SentStatements],
) -> None:
    sites = call_sites()
    assert len(sites) > 200
    missed = [str(site) for site in walked[1].missed(sites) if site.function not in NOT_REACHED]
    assert not missed, "benchmarks/every_statement has no call that reaches:\n" + "\n".join(missed)


def test_no_statement_of_the_product_reads_a_big_table_from_end_to_end(
    walked: tuple[Database, SentStatements],
) -> None:
    database, found = walked
    scans = "SELECT product, count(*) FROM review GROUP BY product"  # or nothing would be found at all
    hidden = "SELECT a.id FROM adapter a WHERE (SELECT count(*) FROM label l WHERE l.source = a.version) > 5"
    for statement in (scans, hidden):
        assert unbounded(database, [Sent(statement, None, (), False)])
    # Texts are read where fewer than 200,000 reviews match all else, or in a window of 50,000 of them.
    bounded = [
        one
        for one in found.statements.values()
        if " ILIKE " not in one.statement and _LOOKED_THROUGH not in one.statement
    ]
    lines = unbounded(database, bounded)
    assert not lines, "\n".join(lines)
