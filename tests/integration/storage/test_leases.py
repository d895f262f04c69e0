"""One holder at a time, by the database's clock, and no way back for the one before."""

import threading
from contextlib import closing

import pytest
from sqlalchemy import text

from reviews.adapter import AdapterVersion
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.learning.leases import Lease, LeaseLost, LeaseStore, holds

NAME = "trainer:sentiment"


@pytest.fixture
def leases(store: Database) -> LeaseStore:
    return LeaseStore(store)


def _held(store: Database, lease: Lease) -> bool:
    with store.begin() as connection:
        return holds(connection, lease)


def _expire(store: Database) -> None:
    with store.begin() as connection:
        connection.execute(text("UPDATE lease SET expires_at = clock_timestamp()"))


def test_a_lease_that_somebody_has_is_given_to_nobody_else(leases):
    first = leases.take(NAME, "one", 60)
    assert leases.take(NAME, "two", 60) is None
    assert leases.holder(NAME).holder == "one"
    assert leases.take("trainer:tone", "two", 60) is not None
    assert first.token == 1


def test_a_lease_that_ran_out_goes_to_the_next_with_a_greater_token(store, leases):
    first = leases.take(NAME, "one", 60)
    _expire(store)
    assert not _held(store, first)
    second = leases.take(NAME, "two", 60)
    assert second.token > first.token
    assert not leases.renew(first, 60)
    assert not _held(store, first)
    assert _held(store, second)


def test_a_lease_that_ran_out_and_that_nobody_took_can_be_renewed(store, leases):
    lease = leases.take(NAME, "one", 60)
    _expire(store)
    assert leases.renew(lease, 60)
    assert _held(store, lease)


def test_a_lease_given_back_is_free_at_once_and_cannot_be_renewed(store, leases):
    lease = leases.take(NAME, "one", 60)
    leases.release(lease)
    assert leases.holder(NAME) is None
    assert not leases.renew(lease, 60)
    again = leases.take(NAME, "one", 60)
    assert again.token > lease.token
    leases.release(lease)  # too late to matter
    assert _held(store, again)


def test_of_many_that_take_a_lease_at_once_one_gets_it(leases):
    start = threading.Barrier(4)
    given: list[Lease | None] = []

    def take(name: str) -> None:
        start.wait()
        given.append(leases.take(NAME, name, 60))

    threads = [threading.Thread(target=take, args=(f"holder {n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sum(lease is not None for lease in given) == 1


def test_nobody_takes_a_lease_while_a_transaction_holds_it_even_when_it_runs_out_meanwhile(store, leases):
    lease = leases.take(NAME, "one", 0.2)
    taken: list[Lease | None] = []
    with store.begin() as connection:
        assert holds(connection, lease)
        connection.execute(text("SELECT pg_sleep(0.3)"))  # it runs out inside the transaction
        other = threading.Thread(target=lambda: taken.append(leases.take(NAME, "two", 60)))
        other.start()
        _wait_until_somebody_waits_for_a_lock(store)
        assert taken == []
    other.join(timeout=30)
    assert taken[0].token > lease.token


def _wait_until_somebody_waits_for_a_lock(store: Database) -> None:
    query = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                 "AND wait_event_type = 'Lock'")  # fmt: skip
    with closing(store.engine.connect()) as connection:
        for _ in range(10_000):
            if connection.execute(query).scalar_one():
                return
            connection.rollback()
    pytest.fail("nobody waits for the lease's row")


def test_an_activation_needs_the_lease_that_it_was_asked_to_hold(store, leases):
    adapters = AdapterStore(store)
    adapter = AdapterVersion("sentiment-a", "sentiment", ("no", "yes"), "base", None, "a")
    adapters.add(adapter, {"weights": b"a"})
    lost, decided = leases.take(NAME, "one", 60), {"expected": None, "decided_by": "test", "reason": "x"}
    _expire(store)
    held = leases.take(NAME, "two", 60)
    with pytest.raises(LeaseLost, match="nothing was changed"):
        adapters.activate(adapter, lease=lost, **decided)
    assert adapters.active("sentiment") is None
    assert adapters.activate(adapter, lease=held, **decided).version == "sentiment-a"
