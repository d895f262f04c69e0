"""Which classifiers score: exchanged as a whole, and never for one that cannot be loaded."""

import threading
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

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
    serving = Serving(registry, ["sentiment"], lambda version, **_: load(version))
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


def test_only_a_classifier_that_is_loaded_while_another_serves_makes_way():
    registry = Registry(sentiment="a")
    loads = []

    def load(version: str, *, make_way: bool) -> Fake:
        loads.append((version, make_way))
        return Fake(version)

    serving = Serving(registry, ["sentiment"], load)
    serving.load_first(0.01, threading.Event())
    registry.versions["sentiment"] = "b"
    serving.refresh()
    assert loads == [("a", False), ("b", True)]


@pytest.mark.parametrize("error", [AdapterError("damaged"), RuntimeError("CUDA out of memory")])
def test_a_broken_adapter_leaves_the_old_one_serving_and_is_tried_once(error: Exception):
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


def test_an_adapter_whose_files_cannot_be_fetched_now_is_tried_again():
    failures: list[Exception] = []

    def load(version: str) -> Fake:
        if failures:
            raise failures.pop()
        return Fake(version)

    registry = Registry(sentiment="a")
    serving = _serving(registry, load)
    registry.versions["sentiment"] = "b"
    failures.append(Unavailable("away"))
    with pytest.raises(Unavailable):
        serving.refresh()
    assert serving.refresh()


@pytest.mark.parametrize("error", [Unavailable("away"), RuntimeError("a fault")])
def test_what_follows_beside_it_goes_on_where_every_look_fails(error: Exception):
    class Failing(Registry):
        def active(self, task: str) -> Activation | None:
            if threading.current_thread() is not threading.main_thread():
                raise error
            return super().active(task)

    looked = threading.Event()
    serving = _serving(Failing(sentiment="a"))
    serving.follow(0.1, also=looked.set)
    assert looked.wait(20)
    serving.stop()


def test_a_check_that_fails_for_hours_is_told_of_when_it_begins_and_when_it_ends():
    registry = Registry(sentiment="a")
    serving = _serving(registry)
    registry.failures = [Unavailable("away", "database") for _ in range(50)]
    is_over, left = threading.Event(), []

    def also() -> None:
        left.append(len(registry.failures))
        if left.count(0) > 1:  # the check before this one succeeded
            is_over.set()

    with capture_logs() as logs:
        serving.follow(0.001, also=also)
        assert is_over.wait(60)
        serving.stop()
        serving._thread.join(60)
    assert [entry["event"] for entry in logs] == ["adapter_check_failed", "adapter_check_works_again"]
