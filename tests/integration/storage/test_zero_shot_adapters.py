"""A zero-shot adapter in the registry: whom it replaces, and what its first reviews begin."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from reviewloop.settings import Settings, load_settings
from reviewloop.wiring.zero_shot import activate_zero_shot, make_zero_shot, standardise_again
from reviews.adapter import AdapterVersion
from reviews.errors import WrongUse
from reviews.label_set import LabelChange
from reviews.prediction import Prediction
from reviews.stream_records import PartitionRange
from reviews.task import LabelSettings, TaskSettings
from storage.adapters.promotion import Consent, ConsentMissing, carry_out, propose_promotion
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.labels.label_sets import LabelSetStore
from storage.learning import runs
from storage.learning.runs import read_pending
from storage.stream.partitions import PartitionStore
from storage.stream.review_writer import ReviewWriter
from tests.scored import scored_review
from tests.tiny import tiny_base
from trainer.fitting.zero_shot import FEWEST_SAMPLED, ReferenceTexts, standardised_on


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


def _settings(base: Path, **texts: str) -> Settings:
    """A random base, which knows no English, and a text about each label."""
    labels = tuple(LabelSettings(name=name, description=said) for name, said in texts.items())
    settings = load_settings({"classifier": {"base_model": str(base), "device": "cpu"}})
    return settings.model_copy(update={"tasks": (TaskSettings(name="sentiment", labels=labels),)})


def _begin(settings: Settings, store: Database) -> AdapterVersion:
    """A zero-shot adapter on a base that nobody asked what it knows, active."""
    sample = ReferenceTexts([], "nothing")
    made = make_zero_shot(settings, store, "sentiment", sample, check_base=False)
    activate_zero_shot(AdapterStore(store), made, None, "a test", "to begin with")
    return made


def _score(store: Database, version: str, reviews: int) -> None:
    PartitionStore(store).register("cluster", "reviews", "topic", 0, 0)
    now = datetime.now(UTC)
    said = Prediction("sentiment", "no", 0.6, (0.6, 0.4), 0.2, 0.6, False, version)
    scored = [
        scored_review(number, f"r{number}", f"text {number}", None, None, None, now, now, (said,))
        for number in range(reviews)
    ]
    ReviewWriter(store).write([PartitionRange(1, 0, reviews, scored)])


def test_it_is_standardised_again_as_it_was_made_whatever_the_settings_say_by_then(store, tmp_path):
    base = tiny_base(tmp_path)
    first = _begin(_settings(base, no="bad", yes="good and fine"), store)
    _score(store, first.version, FEWEST_SAMPLED)
    standardise_again(_settings(base, bad="poor", good="great"), store, "sentiment")
    adapters = AdapterStore(store)
    active = adapters.find(adapters.active("sentiment").version)
    assert (active.parent, active.labels) == (first.version, ("no", "yes"))
    made = adapters.manifest(active.version)["training"]["zero_shot"]
    assert made["labels"] == {"no": ["bad"], "yes": ["good and fine"]}
    assert standardised_on(adapters.manifest(active.version)) == FEWEST_SAMPLED
    standardise_again(_settings(base, no="bad", yes="good and fine"), store, "sentiment")
    assert adapters.active("sentiment").version == active.version, "no more reviews are stored"


def test_a_new_one_has_the_labels_that_were_declared_since(store, tmp_path):
    base = tiny_base(tmp_path)
    _begin(_settings(base, no="bad", yes="good and fine"), store)
    LabelSetStore(store).declare("sentiment", LabelChange("rename", ("no",), ("never",)), "a person")
    renamed = _settings(base, never="bad", yes="good and fine")
    made = make_zero_shot(renamed, store, "sentiment", ReferenceTexts([], "nothing"), check_base=False)
    assert made.labels == ("never", "yes")
