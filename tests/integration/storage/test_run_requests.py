"""Requests for training runs: one a task is open, a schedule takes it, it becomes a run or says why not."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from reviews.errors import WrongUse
from storage.database import Database
from storage.learning import run_requests
from storage.learning.leases import LeaseStore, training_lease
from storage.learning.run_requests import RunRefused, RunRequestStore
from storage.learning.runs import TrainingRunStore

TASK = "sentiment"


@pytest.fixture
def requests(store: Database) -> RunRequestStore:
    return RunRequestStore(store)


def _age(database: Database, seconds: float) -> None:
    """Let all requests have been made earlier."""
    with database.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE run_request SET expires_at = expires_at - %s * interval '1 s'", (seconds,)
        )


def test_a_request_is_taken_once_and_becomes_the_run_that_names_it(
    store: Database, requests: RunRequestStore
):
    asked = requests.ask(TASK, "olga", "after the relabelling")
    assert (asked.state, asked.requested_by, asked.reason) == ("waiting", "olga", "after the relabelling")
    assert requests.take(("tone",), "host:1") is None
    taken = requests.take(("tone", TASK), "host:1")
    assert (taken.id, taken.state, taken.taken_by) == (asked.id, "taken", "host:1")
    assert requests.take((TASK,), "host:2") is None, "it is taken"
    lease = LeaseStore(store).take(training_lease(TASK), "host:1", 60)
    run = TrainingRunStore(store).start(TASK, "requested", lease, {}, None, request=asked.id)
    begun = requests.latest(TASK)
    assert (begun.state, begun.run, begun.error, begun.is_open) == ("begun", run, None, False)
    assert requests.of_run(run) == begun
    requests.fail(asked.id, "too late")
    assert requests.latest(TASK) == begun, "what became a run did not fail"


def test_only_one_request_of_a_task_is_open_and_the_second_hears_whose(requests: RunRequestStore):
    requests.ask(TASK, "olga", "first")
    with pytest.raises(RunRefused, match=r"olga asked for a run of the task 'sentiment' already.*'first'"):
        requests.ask(TASK, "pavel", "second")
    requests.ask("tone", "pavel", "another task")
    requests.take((TASK,), "host:1")
    with pytest.raises(RunRefused, match="olga asked"):
        requests.ask(TASK, "pavel", "second")


def test_of_many_who_ask_at_once_one_is_heard(requests: RunRequestStore):
    together = threading.Barrier(6)

    def ask(number: int) -> str:
        together.wait()
        try:
            return requests.ask(TASK, f"user-{number}", "now").requested_by
        except RunRefused as err:
            return str(err)

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(ask, range(6)))
    winners = [answer for answer in answers if answer.startswith("user-") and " " not in answer]
    assert len(winners) == 1
    assert all(answer == winners[0] or f"{winners[0]} asked" in answer for answer in answers)


def test_of_many_schedules_one_takes_a_request(requests: RunRequestStore):
    requests.ask(TASK, "olga", "now")
    together = threading.Barrier(6)

    def take(number: int) -> object:
        together.wait()
        return requests.take((TASK,), f"host:{number}")

    with ThreadPoolExecutor(6) as pool:
        taken = [found for found in pool.map(take, range(6)) if found is not None]
    assert len(taken) == 1


def test_nobody_asks_while_a_run_is_at_work(store: Database, requests: RunRequestStore):
    LeaseStore(store).take(training_lease(TASK), "host:9", 60)
    with pytest.raises(RunRefused, match=r"is at work \(host:9\)"):
        requests.ask(TASK, "olga", "now")
    assert requests.latest(TASK) is None


@pytest.mark.parametrize("reason", ["", "  ", "a\x00b", "x" * 2_001])
def test_a_request_has_a_reason(requests: RunRequestStore, reason: str):
    with pytest.raises(WrongUse, match="The reason is"):
        requests.ask(TASK, "olga", reason)


def test_a_request_that_no_schedule_takes_expires_says_so_and_makes_way(
    store: Database, requests: RunRequestStore
):
    requests.ask(TASK, "olga", "first")
    _age(store, run_requests.WAITING_SECONDS)
    expired = requests.latest(TASK)
    assert (expired.state, expired.is_open) == ("expired", False)
    assert "No schedule took it in time" in expired.error
    assert requests.take((TASK,), "host:1") is None, "it is too late"
    assert requests.ask(TASK, "pavel", "second").state == "waiting"


def test_a_taken_request_whose_run_does_not_begin_expires_and_cannot_begin_later(
    store: Database, requests: RunRequestStore
):
    asked = requests.ask(TASK, "olga", "first")
    requests.take((TASK,), "host:1")
    _age(store, run_requests.WAITING_SECONDS)
    assert (requests.latest(TASK).state, requests.latest(TASK).taken_by) == ("expired", "host:1")
    requests.ask(TASK, "pavel", "second")
    lease = LeaseStore(store).take(training_lease(TASK), "host:1", 60)
    runs = TrainingRunStore(store)
    with pytest.raises(WrongUse, match="not open any more"):
        runs.start(TASK, "requested", lease, {}, None, request=asked.id)
    assert runs.history(TASK) == [], "nothing was begun"


def test_a_busy_schedule_lets_requests_wait_longer(store: Database, requests: RunRequestStore):
    requests.ask(TASK, "olga", "first")
    _age(store, run_requests.WAITING_SECONDS - 5)
    before = requests.latest(TASK).expires_at
    requests.give_time(("tone",), "host:1")
    assert requests.latest(TASK).expires_at == before
    requests.give_time((TASK,), "host:1")
    assert requests.latest(TASK).expires_at > before
    requests.take((TASK,), "host:1")
    _age(store, run_requests.WAITING_SECONDS - 5)
    before = requests.latest(TASK).expires_at
    requests.give_time((TASK,), "host:2")
    assert requests.latest(TASK).expires_at == before, "another schedule's"
    requests.give_time((TASK,), "host:1")
    assert requests.latest(TASK).expires_at > before


def test_a_request_that_fails_says_why_and_makes_way(requests: RunRequestStore):
    asked = requests.ask(TASK, "olga", "first")
    requests.take((TASK,), "host:1")
    requests.fail(asked.id, "The base model is not there.")
    failed = requests.latest(TASK)
    assert (failed.state, failed.error) == ("failed", "The base model is not there.")
    assert requests.ask(TASK, "pavel", "second").id > asked.id
