"""How often an outage is told of."""

from reviews.retry import Outage


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_attempts_that_fail_for_the_same_reason_are_told_of_ever_more_rarely():
    clock = Clock()
    outage = Outage(clock)
    said = 0
    for _ in range(1800):  # an hour of attempts every two seconds
        said += outage.failed("away")
        clock.now += 2
    assert said == 17
    assert outage.ended() == 3600.0
    assert outage.ended() is None


def test_another_reason_is_told_of_at_once_and_the_next_outage_too():
    outage = Outage(Clock())
    assert [outage.failed(reason) for reason in ("away", "full", "away", "full")] == [
        True,
        True,
        False,
        False,
    ]
    outage.ended()
    assert outage.failed("away")
