"""Brokers that are away are noticed, told of ever more rarely, and greeted when they are back."""

import pytest
from structlog.testing import capture_logs

from consumer.measures import Measures
from consumer.watch import BrokerWatch


class Brokers:
    """Answer or not; time is theirs, too."""

    def __init__(self):
        self.reachable = True
        self.now = 100.0
        self.measures = Measures()
        self.watch = BrokerWatch(lambda: self.reachable, self.measures, lambda: self.now)

    def pass_seconds(self, seconds: int) -> list[str]:
        with capture_logs() as logs:
            for _ in range(seconds):
                self.now += 1
                self.watch.look()
        return [entry["event"] for entry in logs]


@pytest.fixture
def brokers() -> Brokers:
    return Brokers()


def test_one_silent_look_is_no_alarm_as_a_frozen_worker_has_heard_nothing_either(brokers: Brokers):
    brokers.reachable = False
    assert brokers.pass_seconds(1) == []
    brokers.reachable = True
    assert brokers.pass_seconds(5) == []
    assert brokers.measures.answers("kafka")


def test_a_long_outage_is_told_of_ever_more_rarely_and_its_end_once(brokers: Brokers):
    brokers.reachable = False
    assert brokers.pass_seconds(3600).count("broker_unreachable") == 17
    assert brokers.watch.is_away
    assert brokers.measures.answers("kafka") is False
    brokers.reachable = True
    assert brokers.pass_seconds(10) == ["broker_back"]
    assert not brokers.watch.is_away


def test_the_next_outage_is_told_of_at_once_again(brokers: Brokers):
    for _ in range(2):
        brokers.reachable = False
        assert brokers.pass_seconds(4) == ["broker_unreachable"]
        brokers.reachable = True
        assert brokers.pass_seconds(1) == ["broker_back"]
