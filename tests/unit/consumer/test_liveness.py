"""What a worker watches: brokers that are away, and whether all of the topic is read."""

import pytest
from structlog.testing import capture_logs

from broker.subscription import TopicPartition
from consumer.liveness import Backlog, BrokerReachability, IdleDetector
from consumer.measures import Measures
from reviews.errors import Unavailable, Unread, WrongUse

P0, P1 = TopicPartition("reviews", 0), TopicPartition("reviews", 1)


class Brokers:
    """Answer or not; time is theirs, too."""

    def __init__(self):
        self.reachable = True
        self.now = 100.0
        self.measures = Measures()
        self.watch = BrokerReachability("reviews", lambda: self.reachable, self.measures, lambda: self.now)

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


class Topic:
    """A topic of two partitions of which one is this worker's; time is its own, too."""

    def __init__(self):
        self.now = 100.0
        self.ends = {P0: 10, P1: 10}
        self.stored = {P0: 10, P1: 10}
        self.missing: tuple[str, ...] = ()
        self.looks = 0
        self.is_away = False
        self.watch = IdleDetector(3, 60, self._backlog, lambda: self.now)

    def _backlog(self) -> Backlog:
        self.looks += 1
        if self.is_away:
            raise Unavailable("away", "kafka")
        return Backlog(self.missing, self.ends, self.stored, frozenset({P0}))

    def is_idle_after(self, seconds: float) -> bool:
        self.now += seconds
        return self.watch.is_idle()


@pytest.fixture
def topic() -> Topic:
    return Topic()


def test_a_worker_is_idle_when_nothing_was_in_hand_for_a_while_and_all_is_stored(topic: Topic):
    assert not topic.is_idle_after(2)
    topic.watch.note_work()
    assert not topic.is_idle_after(2)
    assert topic.looks == 0, "nobody is asked while there was work a moment ago"
    assert topic.is_idle_after(1)


def test_silence_is_not_idleness_while_brokers_hold_more_than_is_stored(topic: Topic):
    topic.stored[P0] = 4
    for _ in range(100):
        assert not topic.is_idle_after(3)
    topic.stored[P0] = 10
    assert topic.is_idle_after(3)


def test_what_another_worker_reads_is_waited_for_as_long_as_it_gets_on(topic: Topic):
    for stored in range(10):
        topic.stored[P1] = stored
        assert not topic.is_idle_after(50)
    topic.stored[P1] = 10
    assert topic.is_idle_after(50)


def test_what_another_member_holds_and_does_not_store_is_no_success(topic: Topic):
    topic.stored[P1] = 4
    assert not topic.is_idle_after(3)
    assert not topic.is_idle_after(59)
    with pytest.raises(Unread, match=r"6, in reviews\[1\]\).* nobody has stored any of them for 60 s"):
        topic.is_idle_after(3)


def test_a_partition_that_nobody_ever_began_is_no_success_either(topic: Topic):
    topic.ends, topic.stored = {P0: 0, P1: 0}, {P0: 0}
    assert not topic.is_idle_after(3)
    topic.stored[P1] = 0
    assert topic.is_idle_after(3)


@pytest.mark.parametrize(
    ("missing", "said"),
    [("reviews", "The topic 'reviews' does not exist"), (r"/shop\..*/", r"No topic matches /shop\\..*/")],
)
def test_a_topic_that_is_not_there_is_wrong_use(topic: Topic, missing: str, said: str):
    topic.missing = (missing,)
    with pytest.raises(WrongUse, match=said):
        topic.is_idle_after(3)


def test_a_service_that_is_away_counts_neither_as_idleness_nor_against_the_patience(topic: Topic):
    topic.stored[P1] = 4
    assert not topic.is_idle_after(3)
    topic.is_away = True
    with pytest.raises(Unavailable):
        topic.is_idle_after(500)
    topic.watch.note_work()
    topic.is_away = False
    assert not topic.is_idle_after(3)
