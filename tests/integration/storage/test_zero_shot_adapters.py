"""A zero-shot adapter in the registry: whom it replaces, and what its first reviews begin."""

import pytest

from reviewloop.wiring.zero_shot import activate_zero_shot
from reviews.adapter import AdapterVersion
from reviews.errors import WrongUse
from storage.adapters.promotion import Consent, ConsentMissing, carry_out, propose_promotion
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.learning import runs
from storage.learning.runs import read_pending


def _adapter(name: str, origin: str = "trained") -> AdapterVersion:
    return AdapterVersion(name, "sentiment", ("no", "yes"), "base", None, name, origin=origin)


@pytest.fixture
def adapters(store: Database) -> AdapterStore:
    registry = AdapterStore(store)
    for name, origin in (("trained", "trained"), ("zero", "zero-shot"), ("zero-again", "zero-shot")):
        registry.add(_adapter(name, origin), {"config": b"{}"})
    return registry


def _activate(adapters: AdapterStore, name: str) -> None:
    expected = adapters.active("sentiment")
    adapters.activate(adapters.find(name), expected=expected, decided_by="a test", reason="to begin with")


def test_the_registry_tells_where_an_adapter_comes_from(adapters):
    assert {one.version: one.origin for one in adapters.list_versions()} == {
        "trained": "trained",
        "zero": "zero-shot",
        "zero-again": "zero-shot",
    }


def test_it_takes_over_where_nothing_is_active_and_from_another_zero_shot_adapter(adapters):
    activate_zero_shot(adapters, adapters.find("zero"), None, "a test", "first")
    seen = adapters.active("sentiment")
    activate_zero_shot(adapters, adapters.find("zero-again"), seen, "a test", "again")
    assert adapters.active("sentiment").version == "zero-again"


def test_it_never_takes_over_from_an_adapter_that_was_fitted_to_labels(adapters):
    _activate(adapters, "trained")
    with pytest.raises(WrongUse, match=r"trained, the active adapter .* was fitted to labelled reviews"):
        activate_zero_shot(adapters, adapters.find("zero"), adapters.active("sentiment"), "a test", "no")
    assert adapters.active("sentiment").version == "trained"


def test_a_person_who_promotes_it_over_a_fitted_adapter_has_to_agree_to_a_worse_one(adapters, store):
    _activate(adapters, "trained")
    proposal = propose_promotion(store, "zero-again")
    assert proposal.is_worse
    assert "made from descriptions of its labels alone" in proposal.comparison
    decided = {"decided_by": "a person", "reason": "an experiment"}
    with pytest.raises(ConsentMissing):
        carry_out(store, proposal, **decided, consent=Consent())
    carry_out(store, proposal, **decided, consent=Consent(worse=True))
    assert not propose_promotion(store, "trained").is_worse


def test_its_first_reviews_ask_for_one_run(adapters, store, monkeypatch):
    monkeypatch.setattr(runs, "FIRST_REVIEWS", 0)
    assert not read_pending(store, "sentiment").has_first_reviews
    _activate(adapters, "zero")
    assert read_pending(store, "sentiment").has_first_reviews
    monkeypatch.setattr(runs, "FIRST_REVIEWS", 1)
    assert not read_pending(store, "sentiment").has_first_reviews
    _activate(adapters, "trained")
    monkeypatch.setattr(runs, "FIRST_REVIEWS", 0)
    assert not read_pending(store, "sentiment").has_first_reviews
