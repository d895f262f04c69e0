"""Adapters that the gate rejected: tried, promoted by hand, and deleted unless something depends on them."""

import json
from dataclasses import replace

import pytest
from sqlalchemy import text

from reviews.adapter import AdapterVersion
from reviews.errors import AdapterError
from storage.adapters.promotion import Consent, carry_out, propose_promotion
from storage.adapters.registry import AdapterStore
from storage.adapters.rejected import PrunedAdapter, prune_rejected, why_rejected
from storage.adapters.shadows import ShadowStore
from storage.database import Database
from storage.labels.store import LabelStore
from storage.learning.mlflow_outbox import MlflowOutbox


def _version(name: str, **more: object) -> AdapterVersion:
    made = AdapterVersion(name, "sentiment", ("no", "yes"), "base", None, f"hash-{name}", state="rejected")
    return replace(made, **more)


@pytest.fixture
def adapters(store: Database) -> AdapterStore:
    registry = AdapterStore(store)
    for name in ("plain", "tried", "trial", "member", "parent", "chosen", "refused"):
        registry.add(_version(name), {"weights": name.encode()})
    registry.add(_version("child", parent="parent", state="registered"), {"weights": b"child"})
    members = json.dumps({"members": ["member", "child"]}).encode()
    registry.add(_version("ensemble", state="registered"), {"ensemble.json": members})
    return registry


def _age(store: Database, days: int) -> None:
    with store.begin() as connection:
        connection.execute(
            text("UPDATE adapter SET created_at = created_at - make_interval(days => :days)"), {"days": days}
        )


def _promote(store: Database, version: str, consent: Consent) -> None:
    carry_out(
        store, propose_promotion(store, version), decided_by="ann", reason="We need it.", consent=consent
    )


def test_what_nothing_depends_on_goes_and_all_else_stays(store, adapters):
    shadows = ShadowStore(store)
    ended = shadows.start(adapters.find("tried"), 0.5, "ann", "to see")
    running = shadows.start(adapters.find("trial"), 0.5, "ann", "to see", instead_of=ended)
    assert running.version == "trial", "a rejected adapter can be tried"
    _promote(store, "chosen", Consent(rejected=True))
    _promote(store, "child", Consent())
    adapters.reject("chosen")
    assert not adapters.find("chosen").is_rejected, "what served stays as it is: it can be gone back to"
    assert prune_rejected(store, 30) == []
    _age(store, 31)
    gone = [PrunedAdapter("plain", keeps_record=False), PrunedAdapter("tried", keeps_record=True),
            PrunedAdapter("refused", keeps_record=False)]  # fmt: skip
    assert prune_rejected(store, 30, is_rehearsal=True) == gone
    assert adapters.size("plain") > 0
    assert prune_rejected(store, 30) == gone
    left = {adapter.version for adapter in adapters.list_versions()}
    assert left == {"tried", "trial", "member", "parent", "chosen", "child", "ensemble"}
    assert {version for version in left if not adapters.size(version)} == {"tried"}
    assert prune_rejected(store, 30) == []


def test_what_is_rejected_again_is_kept_from_its_last_night_on(store, adapters):
    _age(store, 31)
    made = text("""
    INSERT INTO training_run (task, trigger, lease_token, config, state, candidate_adapter, started_at)
    VALUES ('sentiment', 'night', 1, '{}', 'kept', :version, now() - make_interval(days => :days))
    """)
    with store.begin() as connection:
        for version, days in (("plain", 31), ("plain", 1), ("refused", 31)):
            connection.execute(made, {"version": version, "days": days})
    gone = {one.version for one in prune_rejected(store, 30, is_rehearsal=True)}
    assert gone == {"tried", "trial", "chosen", "refused"}
    assert "plain" in {one.version for one in prune_rejected(store, 0.5, is_rehearsal=True)}


def test_what_has_no_files_any_more_can_neither_be_tried_nor_promoted(store, adapters):
    shadows = ShadowStore(store)
    shadows.stop(shadows.start(adapters.find("tried"), 0.5, "ann", "to see"), "ann", "seen")
    _age(store, 31)
    prune_rejected(store, 30)
    with pytest.raises(AdapterError, match="deleted since"):
        shadows.start(adapters.find("tried"), 0.5, "ann", "again")
    with pytest.raises(AdapterError, match="deleted since"):
        _promote(store, "tried", Consent(rejected=True))
    assert adapters.active("sentiment") is None
    assert adapters.find("tried").is_rejected


def test_what_is_made_again_after_its_files_were_deleted_has_them_again(store, adapters):
    shadows = ShadowStore(store)
    shadows.stop(shadows.start(adapters.find("tried"), 0.5, "ann", "to see"), "ann", "seen")
    _age(store, 31)
    assert PrunedAdapter("tried", keeps_record=True) in prune_rejected(store, 30)
    assert adapters.size("tried") == 0
    for _ in range(2):
        assert not adapters.add(_version("tried"), {"weights": b"tried"}), "its record was there"
        assert adapters.files("tried") == {"weights": b"tried"}
    _promote(store, "tried", Consent(rejected=True))


def test_what_was_emptied_for_an_erased_review_stays_empty(store, adapters, monkeypatch):
    with store.begin() as connection:
        connection.execute(text("DELETE FROM adapter_file"))
    assert not adapters.add(_version("child"), {"weights": b"child"})
    assert adapters.size("child") == 0, "it was not rejected: an erasure emptied it"
    monkeypatch.setattr("storage.adapters.registry.has_seen", lambda *_: True)
    assert not adapters.add(_version("plain"), {"weights": b"plain"})
    assert adapters.size("plain") == 0


def test_labels_of_rejected_adapters_bind_nobody_and_mlflow_waits_for_a_person(store, adapters):
    with store.begin() as connection:
        connection.execute(text("DELETE FROM adapter_file WHERE path = 'ensemble.json'"))
        connection.execute(text("DELETE FROM adapter WHERE state = 'registered'"))
    assert LabelStore(store).vocabulary("sentiment") is None
    outbox = MlflowOutbox(store, "http://mlflow")
    assert outbox.adapters(100) == []
    _promote(store, "plain", Consent(rejected=True))
    assert [one.version for one in outbox.adapters(100)] == ["plain"]
    assert LabelStore(store).vocabulary("sentiment").ordered == ("no", "yes")


def test_an_adapter_that_no_run_made_was_rejected_for_no_reason_that_is_known(store, adapters):
    assert why_rejected(store, "plain") == ()
    assert propose_promotion(store, "plain").rejection == "The gate rejected plain."
