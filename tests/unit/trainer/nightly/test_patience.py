"""A database that is away is waited for, and not for ever."""

import pytest

from reviews.errors import ReviewLoopError, Unavailable
from storage.learning.leases import LeaseHeld, LeaseLost
from trainer.nightly.patience import Patience


class World:
    """A clock that waiting puts forward, and work that fails as told."""

    def __init__(self, *failures: ReviewLoopError) -> None:
        self.now = 0.0
        self.done: list[str] = []
        self.is_stopping = False
        self._failures = list(failures)

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        return self.is_stopping

    def hold(self) -> None:
        self.done.append("hold")

    def work(self) -> str:
        self.done.append("work")
        if self._failures:
            raise self._failures.pop(0)
        return "result"

    def patience(self, seconds: float) -> Patience:
        return Patience(seconds, self.wait, self.hold, lambda: self.now)


def test_work_is_done_again_until_the_database_answers_and_never_without_the_lease():
    world = World(Unavailable("away"), Unavailable("away"))
    assert world.patience(60)(world.work) == "result"
    assert world.done == ["hold", "work"] * 3


def test_an_outage_of_two_minutes_is_sat_out_and_a_longer_one_than_allowed_is_not():
    world = World(*[Unavailable("away")] * 1000)
    with pytest.raises(Unavailable):
        world.patience(120)(world.work)
    assert 110 <= world.now <= 120


def test_each_outage_has_the_whole_time():
    world = World(*[Unavailable("away")] * 3)
    patience = world.patience(1)
    assert patience(world.work) == "result"
    world._failures = [Unavailable("away")] * 3
    assert patience(world.work) == "result"


@pytest.mark.parametrize("error", [LeaseHeld("another"), LeaseLost("lost"), ReviewLoopError("no such table")])
def test_what_waiting_does_not_mend_is_not_waited_for(error):
    world = World(error)
    with pytest.raises(type(error)):
        world.patience(60)(world.work)
    assert world.now == 0


def test_who_asks_to_stop_does_not_wait_for_the_database():
    world = World(*[Unavailable("away")] * 9)
    world.is_stopping = True
    with pytest.raises(Unavailable):
        world.patience(60)(world.work)
    assert world.done == ["hold", "work"]
