"""What is written about a run, and by whom: only by whoever holds its lease."""

from dataclasses import replace

import pytest
from sqlalchemy import text

from reviews.adapter import AdapterVersion
from reviews.errors import WrongUse
from reviews.training_run import TrainingItem
from storage.adapters.registry import ActivationConflict, AdapterStore
from storage.database import Database
from storage.learning.leases import Lease, LeaseLost, LeaseStore
from storage.learning.runs import TrainingRunStore

TASK = "sentiment"
VERSION = AdapterVersion("sentiment-a", TASK, ("no", "yes"), "base", None, "a")
ITEMS = [
    TrainingItem(1, "train", "yes", 2.0),
    TrainingItem(2, "test", "no", 1.0),
    TrainingItem(4, "validation", "no", 1.0),
]


@pytest.fixture
def runs(store: Database) -> TrainingRunStore:
    AdapterStore(store).add(VERSION, {"weights": b"a"})
    return TrainingRunStore(store)


@pytest.fixture
def lease(store: Database) -> Lease:
    taken = LeaseStore(store).take(f"trainer:{TASK}", "one", 60)
    assert taken is not None
    return taken


def _next_lease(store: Database) -> Lease:
    with store.begin() as connection:
        connection.execute(text("UPDATE lease SET expires_at = clock_timestamp()"))
    taken = LeaseStore(store).take(f"trainer:{TASK}", "two", 60)
    assert taken is not None
    return taken


def _start(runs: TrainingRunStore, lease: Lease) -> int:
    return runs.start(TASK, "manual", lease, {"seed": 7}, None)


def test_a_run_is_written_down_from_start_to_promotion(store, runs, lease):
    run = _start(runs, lease)
    runs.reach(run, lease, "snapshot")
    runs.keep_dataset(run, lease, ITEMS, {"sha256": "0"})
    done = runs.promote(
        run, lease, VERSION, expected=None, reason="better", verdict={"promote": True}, metrics={"f1": 1.0}
    )
    runs.close(run, lease)
    shown = runs.show(run)
    assert (shown.state, shown.stage, shown.error) == ("promoted", "done", None)
    assert (shown.candidate_adapter, shown.activation_id) == ("sentiment-a", done.id)
    assert (shown.config, shown.manifest, shown.verdict) == ({"seed": 7}, {"sha256": "0"}, {"promote": True})
    assert shown.finished_at >= shown.started_at
    assert runs.items(run) == ITEMS
    assert runs.trained_on("sentiment-a") == {1, 4}
    assert AdapterStore(store).active(TASK).decided_by == f"training run {run}"
    assert runs.history(TASK) == [shown]
    assert runs.history("tone") == []


def test_what_an_adapter_continues_from_was_trained_as_well(store, runs, lease):
    adapters = AdapterStore(store)
    for name, parent, record in (("a", None, 1), ("b", "a", 5), ("c", "b", 6), ("d", None, 7)):
        adapters.add(replace(VERSION, version=name, content_hash=name, parent=parent), {"weights": b"x"})
        run = _start(runs, lease)
        runs.keep_dataset(run, lease, [TrainingItem(record, "train", "yes", 1.0)], {})
        runs.decide(run, lease, "kept", candidate=name)
        runs.close(run, lease)
    assert [runs.trained_on(name) for name in "abcd"] == [{1}, {1, 5}, {1, 5, 6}, {7}]
    with store.begin() as connection:
        connection.execute(text("UPDATE adapter SET parent = 'c' WHERE version = 'a'"))
    assert runs.trained_on("c") == {1, 5, 6}, "a circle ends"


def test_what_is_written_twice_is_as_if_written_once(store, runs, lease):
    run = _start(runs, lease)
    assert _start(runs, lease) == run
    runs.keep_dataset(run, lease, [*ITEMS, TrainingItem(3, "test", "no", 1.0)], {"sha256": "1"})
    runs.keep_dataset(run, lease, ITEMS, {"sha256": "0"})
    assert (runs.items(run), runs.show(run).manifest) == (ITEMS, {"sha256": "0"})
    first, again = (
        runs.promote(run, lease, VERSION, expected=None, reason="better", verdict={}, metrics={})
        for _ in range(2)
    )
    assert first == again == AdapterStore(store).active(TASK)
    assert len(AdapterStore(store).history(TASK)) == 1
    runs.close(run, lease)
    runs.close(run, lease)
    assert [each.state for each in runs.history(TASK)] == ["promoted"]
    assert _start(runs, _next_lease(store)) != run


def test_the_next_run_marks_one_that_was_left_unfinished_as_failed(store, runs, lease):
    left = _start(runs, lease)
    runs.reach(left, lease, "fit")
    second = _next_lease(store)
    run = _start(runs, second)
    assert runs.show(left).state == "failed"
    assert "in the stage 'fit'" in runs.show(left).error
    assert runs.show(run).state == "running"


def test_a_run_that_had_promoted_before_its_process_ended_stays_promoted(store, runs, lease):
    left = _start(runs, lease)
    runs.promote(left, lease, VERSION, expected=None, reason="better", verdict={}, metrics={})
    runs.reach(left, lease, "queue")
    _start(runs, _next_lease(store))
    assert (runs.show(left).state, "'queue'" in runs.show(left).error) == ("promoted", True)
    assert runs.show(left).finished_at is not None


def test_whoever_lost_the_lease_writes_nothing(store, runs, lease):
    run = _start(runs, lease)
    _start(runs, _next_lease(store))
    before = runs.show(run)
    attempts = (
        lambda: _start(runs, lease),
        lambda: runs.reach(run, lease, "fit"),
        lambda: runs.keep_dataset(run, lease, ITEMS, {}),
        lambda: runs.decide(run, lease, "kept"),
        lambda: runs.promote(run, lease, VERSION, expected=None, reason="x", verdict={}, metrics={}),
        lambda: runs.close(run, lease),
    )
    for attempt in attempts:
        with pytest.raises(LeaseLost):
            attempt()
    assert runs.show(run) == before
    assert runs.items(run) == []
    assert AdapterStore(store).active(TASK) is None


def test_a_promotion_that_expects_another_adapter_changes_nothing(store, runs, lease):
    other = AdapterVersion("sentiment-b", TASK, ("no", "yes"), "base", None, "b")
    adapters = AdapterStore(store)
    adapters.add(other, {"weights": b"b"})
    run = _start(runs, lease)
    active = adapters.activate(other, expected=None, decided_by="a person", reason="rollback")
    with pytest.raises(ActivationConflict):
        runs.promote(run, lease, VERSION, expected=None, reason="x", verdict={}, metrics={})
    assert adapters.active(TASK) == active
    assert runs.show(run).state == "running"


def test_the_last_beginning_is_that_of_the_task_s_newest_run_however_it_ended(store, runs, lease):
    assert runs.last_began(TASK) is None
    runs.fail(_start(runs, lease), lease, "It went wrong.")
    last = _start(runs, lease)
    assert runs.last_began(TASK) == runs.show(last).started_at
    assert runs.last_began("tone") is None


def test_a_run_that_is_not_there_is_wrong_use(runs):
    with pytest.raises(WrongUse, match="no training run 7"):
        runs.show(7)
