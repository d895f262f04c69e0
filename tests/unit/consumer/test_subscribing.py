"""Joining the group: patient with brokers that go away at any moment, and leaving nothing open."""

import threading

import pytest

from broker.settings import KafkaSettings
from broker.topics import TopicChoice
from consumer import subscribing
from consumer.settings import ConsumerSettings
from consumer.subscribing import subscribe
from reviews.errors import ReviewLoopError, Unavailable


class Group:
    """Subscriptions, and what befalls each in turn: its opening, or the question about its topic."""

    def __init__(self, opening: list[Exception] = (), asking: list[Exception | list[str]] = ()) -> None:
        self.opening, self.asking = list(opening), list(asking)
        self.open: list[object] = []

    def __call__(self, settings: KafkaSettings, choice: TopicChoice, max_value_bytes: int) -> "Member":
        if self.opening:
            raise self.opening.pop()
        self.open.append(member := Member(self))
        return member


class Member:
    def __init__(self, group: Group) -> None:
        self._group = group

    def missing_topics(self) -> list[str]:
        answer = self._group.asking.pop() if self._group.asking else []
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self._group.open.remove(self)


def _join(group: Group, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(subscribing, "Subscription", group)
    choice, options = TopicChoice(("reviews",)), ConsumerSettings(retry_max_seconds=0.01)
    return subscribe(KafkaSettings(), choice, options, threading.Event())


def test_brokers_that_are_away_are_waited_for(monkeypatch):
    group = Group(opening=[Unavailable("away")] * 3)
    assert group.open == [_join(group, monkeypatch)]


def test_brokers_that_go_away_after_the_first_answer_are_waited_for_and_nothing_stays_open(monkeypatch):
    group = Group(asking=[Unavailable("away")] * 3)
    assert group.open == [_join(group, monkeypatch)]


def test_a_refusal_leaves_nothing_open(monkeypatch):
    group = Group(asking=[ReviewLoopError("you may not")])
    with pytest.raises(ReviewLoopError, match="you may not"):
        _join(group, monkeypatch)
    assert group.open == []


def test_a_topic_that_is_missing_is_no_obstacle(monkeypatch):
    group = Group(asking=[["reviews"]])
    assert group.open == [_join(group, monkeypatch)]
