"""How work is tried again, and how often an outage is told of."""

import pytest
from structlog.testing import capture_logs

from reviews.errors import Exhausted, ReviewLoopError, Unavailable
from reviews.retry import Outage, Retry
from storage.learning.leases import LeaseHeld, LeaseLost


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _outage(clock: Clock, **options) -> Outage:
    return Outage("away", "back", clock=clock, **options)


def test_attempts_that_fail_for_the_same_reason_are_told_of_ever_more_rarely_and_their_end_once():
    clock = Clock()
    outage = _outage(clock)
    with capture_logs() as logs:
        for _ in range(1800):  # an hour of attempts every two seconds
            outage.failed("no answer")
            clock.now += 2
        assert outage.ended()
        assert not outage.ended()
    assert [log["event"] for log in logs] == ["away"] * 17 + ["back"]
    assert logs[-1]["away_seconds"] == 3600.0


def test_another_reason_is_told_of_at_once_and_the_next_outage_too():
    outage = _outage(Clock(), topic="reviews")
    with capture_logs() as logs:
        for reason in ("no answer", "full", "no answer", "full"):
            outage.failed(reason)
        outage.ended()
        outage.failed("no answer")
    assert [log.get("error") for log in logs] == ["no answer", "full", None, "no answer"]
    assert {log["topic"] for log in logs} == {"reviews"}


def test_pauses_double_up_to_the_longest_one_and_begin_anew_with_the_next_outage():
    outage = _outage(Clock(), longest_seconds=1, first_seconds=0.3)
    assert [outage.failed("no answer") for _ in range(4)] == [0.3, 0.6, 1, 1]
    outage.ended()
    assert outage.failed("no answer") == 0.3


def test_an_error_of_ours_explains_itself_and_a_fault_of_the_program_comes_with_its_traceback():
    fault = KeyError("a bug")
    with capture_logs() as logs:
        _outage(Clock()).failed(Unavailable("no answer"))
        _outage(Clock()).failed(fault)
    assert [(log["log_level"], log.get("exc_info")) for log in logs] == [("warning", None), ("error", fault)]


class World:
    """A clock that waiting puts forward, and work that fails as told."""

    def __init__(self, *failures: Exception) -> None:
        self.now = 0.0
        self.done: list[str] = []
        self.noted: list[Exception | None] = []
        self.is_stopping = False
        self.failures = list(failures)

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        return self.is_stopping

    def work(self) -> str:
        self.done.append("work")
        if self.failures:
            raise self.failures.pop(0)
        return "result"

    def retry(self, **options) -> Retry:
        return Retry(
            "away",
            "back",
            longest_seconds=10,
            wait=self.wait,
            before=lambda: self.done.append("before"),
            note=self.noted.append,
            clock=lambda: self.now,
            **options,
        )


def test_work_is_done_again_until_it_succeeds_and_never_without_what_comes_before_it():
    away = Unavailable("away")
    world = World(away, away)
    assert world.retry()(world.work) == "result"
    assert world.done == ["before", "work"] * 3
    assert world.noted == [away, away, None]


def test_an_outage_of_two_minutes_is_sat_out_and_a_longer_one_than_allowed_is_not():
    world = World(*[Unavailable("away")] * 1000)
    with pytest.raises(Unavailable):
        world.retry(outage_seconds=120)(world.work)
    assert 110 <= world.now <= 120


def test_each_outage_has_the_whole_time():
    world = World(*[Unavailable("away")] * 3)
    retry = world.retry(outage_seconds=1)
    assert retry(world.work) == "result"
    world.failures = [Unavailable("away")] * 3
    assert retry(world.work) == "result"


@pytest.mark.parametrize("error", [LeaseHeld("another"), LeaseLost("lost"), ReviewLoopError("no such table")])
def test_what_waiting_does_not_mend_is_not_waited_for(error):
    world = World(error)
    with pytest.raises(type(error)):
        world.retry(is_final=lambda err: isinstance(err, LeaseHeld))(world.work)
    assert world.now == 0


def test_who_asks_to_stop_does_not_wait_for_the_service():
    world = World(*[Unavailable("away")] * 9)
    world.is_stopping = True
    with pytest.raises(Unavailable):
        world.retry()(world.work)
    assert world.done == ["before", "work"]


def test_attempts_and_time_outs_are_counted_where_they_are_limited():
    world = World(*[Unavailable("away")] * 9)
    with pytest.raises(Unavailable):
        world.retry(attempts=3)(world.work)
    assert world.done.count("work") == 3
    world = World(Exhausted("too long"), Unavailable("away"), Exhausted("too long"))
    with pytest.raises(Exhausted):
        world.retry()(world.work, time_outs=2)
    assert world.done.count("work") == 3
