"""Which classifiers score: exchanged as a whole, and never for one that cannot be loaded."""

import threading
from datetime import UTC, datetime

import pytest

from consumer.serving import Serving
from reviews.adapter import Activation
from reviews.errors import AdapterError, Unavailable, WrongUse


class Fake:
    def __init__(self, version: str, task: str = "sentiment") -> None:
        self.adapter_version, self.task = version, task

    def encode(self, texts):
        return texts

    def score(self, encoded):
        return []


class Registry:
    def __init__(self, **active: str) -> None:
        self.versions = active
        self.failures: list[Exception] = []

    def active(self, task: str) -> Activation | None:
        if self.failures:
            raise self.failures.pop()
        version = self.versions.get(task)
        moment = datetime(2026, 1, 1, tzinfo=UTC)
        return Activation(1, task, version, None, moment, "test", "test") if version else None


def _serving(registry: Registry, load=Fake) -> Serving:
    serving = Serving(registry, ["sentiment"], load)
    serving.load_first(0.01, threading.Event())
    return serving


def test_the_active_adapter_serves_from_the_start_even_if_the_database_is_away_at_first():
    registry = Registry(sentiment="a")
    registry.failures = [Unavailable("away"), Unavailable("away")]
    assert [fake.adapter_version for fake in _serving(registry).current()] == ["a"]


def test_without_an_active_adapter_nothing_starts():
    with pytest.raises(WrongUse, match="adapters add DIR --activate"):
        _serving(Registry())


def test_another_active_adapter_is_exchanged_and_the_same_one_is_not_loaded_again():
    registry = Registry(sentiment="a")
    serving = _serving(registry)
    before = serving.current()
    assert not serving.refresh()
    assert serving.current()[0] is before[0]
    registry.versions["sentiment"] = "b"
    assert serving.refresh()
    assert serving.current()[0].adapter_version == "b"
    assert before[0].adapter_version == "a"


@pytest.mark.parametrize("error", [AdapterError("damaged"), AttributeError("no attribute 'merge'")])
def test_a_broken_adapter_leaves_the_old_one_serving_and_is_tried_once(error):
    tries = []

    def load(version: str) -> Fake:
        tries.append(version)
        if version == "broken":
            raise error
        return Fake(version)

    registry = Registry(sentiment="a")
    serving = _serving(registry, load)
    registry.versions["sentiment"] = "broken"
    assert not serving.refresh()
    assert not serving.refresh()
    assert serving.current()[0].adapter_version == "a"
    assert tries == ["a", "broken"]


def test_an_adapter_that_the_database_could_not_give_is_tried_again():
    failures = [Unavailable("away")]

    def load(version: str) -> Fake:
        if version == "b" and failures:
            raise failures.pop()
        return Fake(version)

    registry = Registry(sentiment="a")
    serving = _serving(registry, load)
    registry.versions["sentiment"] = "b"
    with pytest.raises(Unavailable):
        serving.refresh()
    assert serving.refresh()
