"""The database's primary changes: what is in the pool of old sessions does not keep a worker from storing."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import make_url

from storage.database import Database
from storage.migrate import upgrade
from storage.settings import DatabaseSettings
from tests.conftest import TopicFactory
from tests.faults.scene import Scene
from tests.faults.standby import Pair

Make = Callable[..., Scene]


def test_a_worker_stores_again_when_a_database_that_was_read_only_takes_writes(scene: Make):
    """Sessions opened meanwhile stay read-only although they answer, as on a primary that stepped down."""
    stream = scene()
    worker = stream.worker()
    stream.publish(50)
    stream.wait_until_stored()
    name = make_url(stream.database_url).database
    stream.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    stream.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    stream.publish(100)
    stream.wait_until(
        lambda _: any("read-only" in event["error"] for event in worker.events("database_unavailable"))
    )
    stream.sql(f"BEGIN READ WRITE; ALTER DATABASE {name} RESET default_transaction_read_only; COMMIT")
    stream.wait_until_stored()
    assert worker.is_alive()


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A primary and its standby."""
    made = Pair()
    yield made
    made.close()


@pytest.fixture
def mirrored(kafka_bootstrap: str, pair: Pair, topic: TopicFactory, tmp_path: Path) -> Iterator[Scene]:
    """A stream into that primary."""
    with closing(Database(DatabaseSettings(url=SecretStr(pair.primary)))) as primary:
        upgrade(primary)
    made = Scene(kafka_bootstrap, pair.primary, topic(3), tmp_path)
    yield made
    made.close()


def test_a_primary_killed_in_mid_batch_gives_way_to_its_promoted_standby(mirrored: Scene, pair: Pair):
    worker = mirrored.worker(url=pair.both, stops={"scored": 3})
    mirrored.publish(300)
    worker.wait_for("at scored")
    pair.kill_primary()
    worker.go_on()
    worker.wait_for_event("database_unavailable")
    mirrored.publish(150)
    pair.promote()
    mirrored.database_url = pair.standby
    mirrored.wait_until_stored()
    assert worker.is_alive()


def test_commits_that_the_standby_never_got_are_made_again_from_kafka(mirrored: Scene, pair: Pair):
    """Nothing new is published after the failover: nobody but the worker itself would notice the loss."""
    worker = mirrored.worker(url=pair.both)
    mirrored.publish(100)
    mirrored.wait_until_stored()
    pair.wait_for_standby()
    pair.cut_replication()
    mirrored.publish(100)
    mirrored.wait_until_stored()
    pair.kill_primary()
    mirrored.database_url = pair.standby
    assert sum(account.next for account in mirrored.accounts()) == 100
    pair.promote()
    mirrored.wait_until_stored()
    assert worker.is_alive()
