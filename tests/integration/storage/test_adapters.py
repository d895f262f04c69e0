"""The registry of adapters: immutable content, and one activation at a time (I7)."""

import random
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import text

import storage.adapters.registry
from reviews.adapter import AdapterVersion
from reviews.errors import AdapterError, WrongUse
from storage.adapters.registry import ActivationConflict, AdapterStore
from storage.database import Database


def _version(name: str, task: str = "sentiment") -> AdapterVersion:
    return AdapterVersion(
        f"{task}-{name}", task, ("no", "yes"), "base", "main", f"{task}{name}", 1.5, {"accuracy": 0.7}
    )


@pytest.fixture
def adapters(store: Database) -> AdapterStore:
    registry = AdapterStore(store)
    for name in ("aaa", "aab", "ccc"):
        registry.add(_version(name), {"weights": name.encode() * 1000, "config": b"{}"})
    return registry


def test_what_was_added_is_found_with_its_files(adapters):
    found = adapters.find("sentiment-ccc")
    assert found.created_at is not None
    assert (found.labels, found.temperature, found.metrics) == (("no", "yes"), 1.5, {"accuracy": 0.7})
    assert adapters.files("sentiment-ccc") == {"weights": b"ccc" * 1000, "config": b"{}"}


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_reading_a_large_file_takes_little_more_memory_than_its_bytes(adapters):
    content = random.Random(1).randbytes(48_000_000)
    adapters.add(_version("large"), {"weights": content})
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    before = _peak_megabytes()
    assert adapters.file("sentiment-large", "weights") == content
    assert adapters.files("sentiment-large")["weights"] == content
    assert _peak_megabytes() - before < 150


def _peak_megabytes() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def test_a_file_that_the_database_cannot_hold_is_refused_by_name(adapters, monkeypatch):
    monkeypatch.setattr(storage.adapters.registry, "MAX_FILE_BYTES", 5_000)
    with pytest.raises(AdapterError, match="weights of the adapter 'sentiment-ddd' has 6,000 bytes"):
        adapters.add(_version("ddd"), {"weights": b"x" * 6_000})
    assert len(adapters.list_versions()) == 3


def test_adding_the_same_content_again_changes_nothing(adapters):
    assert not adapters.add(_version("ccc"), {"weights": b"other"})
    assert adapters.files("sentiment-ccc")["weights"] == b"ccc" * 1000
    assert len(adapters.list_versions()) == 3


def test_a_beginning_names_an_adapter_only_when_it_is_unambiguous(adapters):
    assert adapters.find("sentiment-c").version == "sentiment-ccc"
    with pytest.raises(WrongUse, match="ambiguous"):
        adapters.find("sentiment-aa")
    with pytest.raises(WrongUse, match="not registered"):
        adapters.find("sentiment-%")


def test_a_file_damaged_in_the_database_is_refused(store, adapters):
    with store.begin() as connection:
        connection.execute(text("UPDATE adapter_file SET content = 'x' WHERE path = 'weights'"))
    with pytest.raises(AdapterError, match="damaged"):
        adapters.files("sentiment-ccc")


def test_activations_form_a_chain_with_its_history(adapters):
    first = adapters.activate(_version("aaa"), expected=None, decided_by="test", reason="first")
    second = adapters.activate(_version("ccc"), expected=first, decided_by="test", reason="better")
    back = adapters.activate(_version("aaa"), expected=second, decided_by="test", reason="rollback")
    assert adapters.active("sentiment") == back
    assert [(item.version[-3:], (item.replaced or "none")[-3:]) for item in adapters.history()] == [
        ("aaa", "ccc"),
        ("ccc", "aaa"),
        ("aaa", "one"),
    ]


def test_an_activation_that_expects_a_replaced_one_is_refused(adapters):
    first = adapters.activate(_version("aaa"), expected=None, decided_by="test", reason="first")
    second = adapters.activate(_version("ccc"), expected=first, decided_by="test", reason="better")
    for stale in (None, first):
        with pytest.raises(ActivationConflict, match="nothing was changed"):
            adapters.activate(_version("aab"), expected=stale, decided_by="test", reason="late")
    assert adapters.active("sentiment") == second


def test_of_two_activations_at_once_one_wins(adapters):
    first = adapters.activate(_version("aaa"), expected=None, decided_by="test", reason="first")
    start = threading.Barrier(2)
    outcomes: list[str] = []

    def activate(name: str) -> None:
        start.wait()
        try:
            adapters.activate(_version(name), expected=first, decided_by=name, reason="race")
            outcomes.append("won")
        except ActivationConflict:
            outcomes.append("refused")

    threads = [threading.Thread(target=activate, args=(name,)) for name in ("aab", "ccc")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert sorted(outcomes) == ["refused", "won"]


def test_tasks_have_activations_of_their_own(adapters):
    adapters.add(_version("ttt", "tone"), {"weights": b"t"})
    adapters.activate(_version("aaa"), expected=None, decided_by="test", reason="first")
    tone = adapters.activate(_version("ttt", "tone"), expected=None, decided_by="test", reason="first")
    assert adapters.active("tone") == tone
    assert adapters.active("nothing") is None


def test_an_unknown_adapter_is_not_activated(adapters):
    with pytest.raises(WrongUse, match="not registered"):
        adapters.activate(_version("zzz"), expected=None, decided_by="test", reason="x")
