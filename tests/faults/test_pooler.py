"""Behind PgBouncer, which shares the server's sessions out and takes no start-up options."""

from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import make_url, text

from reviews.errors import ReviewLoopError
from storage.database import Database, look
from storage.migrate import upgrade
from storage.queries.text_index import create_text_index, drop_text_index
from storage.settings import DatabaseSettings
from tests.faults.pooler import PgBouncer
from tests.faults.postgres_proxy import PostgresProxy
from tests.faults.scene import Scene

Make = Callable[..., Scene]
Pool = Callable[..., PgBouncer]
MODES = ("session", "transaction")


@pytest.fixture
def pool() -> Iterator[Pool]:
    """Puts a pooler in front of a database."""
    made: list[PgBouncer] = []

    def make(url: str, mode: str, **options: int) -> PgBouncer:
        made.append(PgBouncer(url, mode, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for item in made:
        item.close()


def _open(url: str, **settings: float) -> "closing[Database]":
    return closing(Database(DatabaseSettings(url=SecretStr(url), **settings)))


@pytest.mark.parametrize("mode", MODES)
def test_a_worker_frozen_in_its_transaction_behind_a_pooler_does_not_block_its_successor(
    scene: Make, pool: Pool, mode: str
):
    stream = scene()
    pooler = pool(stream.database_url, mode)
    proxy = PostgresProxy(pooler.url)
    try:
        stop = proxy.stop_before("COPY prediction")
        stream.publish(200)
        frozen = stream.worker(url=proxy.url)
        stop.wait()
        frozen.freeze()
        stop.release()
        stream.worker(url=pooler.url)
        stream.wait_until_stored()
        frozen.thaw()
        stream.publish(100)
        stream.wait_until_stored()
        assert frozen.is_alive()
    finally:
        proxy.close()


@pytest.mark.parametrize("mode", MODES)
def test_time_outs_are_in_force_in_each_transaction_and_left_to_nobody_else(
    database: str, pool: Pool, mode: str
):
    url = pool(database, mode, sessions=1).url
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    for seconds in (7, 8):
        with _open(url, statement_timeout_seconds=seconds) as opened:
            report = look(opened)
            assert report.time_outs == opened.time_outs
            assert report.time_outs["statement_timeout"] == seconds
        with psycopg.connect(plain, autocommit=True) as other:
            assert other.execute("SHOW statement_timeout").fetchone() == ("0",)


@pytest.mark.parametrize("mode", MODES)
def test_a_schema_is_made_and_rows_are_streamed_through_a_pooler(empty_database: str, pool: Pool, mode: str):
    with _open(pool(empty_database, mode, sessions=2).url) as opened:
        assert upgrade(opened).missing == ()
        for _ in range(7):  # more often than a driver waits before it prepares a statement
            assert sum(1 for _ in opened.stream(text("SELECT generate_series(1, 3000)"))) == 3000


def test_an_index_on_texts_is_made_through_a_pooler_and_leaves_its_patience_to_nobody(
    database: str, pool: Pool
):
    url = pool(database, "transaction", sessions=1).url
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with _open(url) as opened, psycopg.connect(plain, autocommit=True) as other:
        assert create_text_index(opened)
        assert other.execute("SHOW lock_timeout").fetchone() == ("0",)
        drop_text_index(opened)


def test_what_a_pooler_refuses_is_told_with_the_setting_that_mends_it(database: str, pool: Pool):
    with (
        _open(pool(database, "statement").url) as opened,
        pytest.raises(ReviewLoopError, match="pool_mode"),
        opened.begin(),
    ):
        pass
    with (
        _open(pool(database, "transaction").url + "?options=-cgeqo%3Doff") as opened,
        pytest.raises(ReviewLoopError, match="takes no options"),
        opened.begin(),
    ):
        pass
