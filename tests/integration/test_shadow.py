"""An adapter on trial, with the real commands on a running worker: stored, compared, and never shown."""

import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from reviews.adapter import AdapterVersion
from reviews.errors import WrongUse
from reviews.prediction import Prediction
from reviews.queue_item import NewItem
from reviews.slices import SliceShares, hash_position, slice_of
from reviews.stream_records import PartitionRange
from storage.adapters.registry import AdapterStore
from storage.adapters.shadows import ShadowStore
from storage.database import Database
from storage.labels.queue_contents import QueueContents
from storage.learning.disagreements import disagreements
from storage.stream.partitions import PartitionStore
from storage.stream.review_writer import ReviewWriter
from tests.integration.in_process import InProcess, Stream
from tests.integration.system import System
from tests.scored import scored_review

Make = Callable[..., System]
Run = Callable[..., str]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
A, B = "sentiment-aaaaaaaaaaaa", "sentiment-bbbbbbbbbbbb"
NO_AUDIT = SliceShares(audit=0.0)


def _wait(what: Callable[[], bool], made: System) -> None:
    deadline = time.monotonic() + 90
    while not what():
        assert time.monotonic() < deadline, (made.folder / "worker.log").read_text()
        time.sleep(0.1)


def test_a_shadow_scores_its_share_of_the_live_reviews_in_their_transactions_and_nobody_is_shown(
    system: Make, tiny_adapters: tuple[Path, Path]
) -> None:
    made = system(partitions=2)
    active = made.run("adapters", "add", tiny_adapters[0], "--activate").strip()
    other = made.run("adapters", "add", tiny_adapters[1]).strip()
    log = made.folder / "worker.log"
    worker = made.start("consume")
    try:
        made.run("adapters", "shadow", other, "--share", 0.3)
        _wait(lambda: "shadow_began" in log.read_text(), made)
        made.publish([{"id": f"r{number}", "text": f"review number {number}"} for number in range(300)])
        _wait(lambda: made.sql("SELECT count(*) FROM review") == [(300,)], made)
    finally:
        worker.terminate()
        worker.wait(60)

    assert made.sql("SELECT DISTINCT adapter_version, count(*) FROM scored_reviews GROUP BY 1") == [
        (active, 300)
    ]
    tried = made.sql(
        "SELECT r.review_id, h.reason, a.version FROM prediction_history h "
        "JOIN review r USING (record) JOIN adapter a ON a.id = h.adapter_id"
    )
    chosen = {f"r{number}" for number in range(300) if hash_position(f"r{number}", "shadow") < 0.3}
    assert {row[0] for row in tried} == chosen
    assert {row[1:] for row in tried} == {("shadow", other)}
    _check_embeddings(made, active)

    shown = json.loads(made.run("adapters", "shadow", "status", "--format", "jsonl"))
    different = made.sql(
        "SELECT count(*) FROM prediction_history h JOIN prediction p USING (record) WHERE h.label <> p.label"
    )[0][0]
    assert (shown["rows"], shown["compared"], shown["disagreements"]) == (len(chosen), len(chosen), different)
    assert shown["agreement"] == pytest.approx(1 - different / len(chosen))
    made.run("adapters", "shadow", "--stop")
    assert json.loads(made.run("adapters", "shadow", "status"))["ended_at"] is not None


def _check_embeddings(made: System, active: str) -> None:
    """The audit slice has its embeddings, by the adapter that serves, in half precision."""
    kept = made.sql(
        "SELECT r.review_id, e.reason, e.vector, a.version FROM embedding e "
        "JOIN review r USING (record) JOIN adapter a ON a.id = e.adapter_id"
    )
    audited = {f"r{number}" for number in range(300) if slice_of(f"r{number}", SliceShares()) == "audit"}
    assert audited
    assert {row[0] for row in kept if row[1] == "audit"} == audited
    assert {row[3] for row in kept} == {active}
    vectors = np.stack([np.frombuffer(row[2], "<f2") for row in kept])
    assert vectors.shape == (len(kept), 32)
    assert np.isfinite(vectors).all()


@pytest.fixture
def made(stream: Stream) -> InProcess:
    """A database with two adapters, the first of them active."""
    made = stream()
    adapters = AdapterStore(made.database)
    for number, name in enumerate((A, B)):
        adapters.add(
            AdapterVersion(name, "sentiment", ("bad", "good"), "none", None, str(number) * 64), {"a": b""}
        )
    adapters.activate(adapters.find(A), expected=None, decided_by="test", reason="test")
    PartitionStore(made.database).register("cluster", "reviews", "topic", 0, 0)
    return made


def _said(label: str, margin: float, version: str) -> Prediction:
    return Prediction("sentiment", label, 0.7, (0.3, 0.7), margin, 0.6, False, version)


def store_scored(
    database: Database,
    labels: list[tuple[str, str | None]],
    names: tuple[str, str] = (A, B),
    ids: Sequence[str] = (),
) -> None:
    """Reviews with what serves says, and what the shadow says where it says something."""
    serving, trial = names
    reviews = [
        scored_review(
            offset, ids[offset] if ids else f"r{offset}", "text", None, None, None, NOW, NOW,
            (_said(served, 0.4, serving),),
            shadows=() if shadow is None else (_said(shadow, 0.1, trial),),
        )
        for offset, (served, shadow) in enumerate(labels)
    ]  # fmt: skip
    assert not ReviewWriter(database).write([PartitionRange(1, 0, len(labels), reviews)]).lost


def test_disagreements_are_the_reviews_that_both_scored_and_called_differently(made: InProcess, run: Run):
    run(made, "adapters", "shadow", B, "--share", 1)
    store_scored(made.database, [("good", "good"), ("good", "bad"), ("bad", None), ("bad", "good")])
    store = ShadowStore(made.database)
    trial = store.running("sentiment")
    found = disagreements(made.database, "sentiment", trial.started_at, NO_AUDIT)
    assert [(item.record & 0xFF, item.label, item.shadow_label) for item in found] == [
        (1, "good", "bad"),
        (3, "bad", "good"),
    ]
    assert {(item.served_by, item.shadow) for item in found} == {(A, B)}
    assert (found[0].margin, found[0].shadow_margin) == (pytest.approx(0.4), pytest.approx(0.1))
    assert len(disagreements(made.database, "sentiment", trial.started_at, NO_AUDIT, limit=1)) == 1
    assert disagreements(made.database, "tone", trial.started_at, NO_AUDIT) == []
    everything = SliceShares(audit=1.0)
    assert disagreements(made.database, "sentiment", trial.started_at, everything) == [], "audit is random"
    QueueContents(made.database).add([NewItem(found[0].record, "sentiment", "disagreement", "shadow", 0.5)])
    left = disagreements(made.database, "sentiment", trial.started_at, NO_AUDIT)
    assert [item.record for item in left] == [found[1].record], "nobody is asked twice"
    assert store.agreement(trial)[:3] == (3, 3, 1)


def test_nobody_is_asked_about_a_version_that_was_replaced(made: InProcess, run: Run):
    run(made, "adapters", "shadow", B, "--share", 1)
    store_scored(made.database, [("good", "bad"), ("good", "bad"), ("good", "good")], ids=("a", "b", "a"))
    since = ShadowStore(made.database).running("sentiment").started_at
    found = disagreements(made.database, "sentiment", since, NO_AUDIT)
    assert [item.record & 0xFF for item in found] == [1]


def test_a_trial_ends_the_one_before_and_is_refused_for_what_serves(made: InProcess, run: Run):
    run(made, "adapters", "shadow", B, "--share", 0.5)
    run(made, "adapters", "shadow", B, "--share", 0.2, "--yes")
    runs = ShadowStore(made.database).latest()
    assert [(item.share, item.ended_at is None) for item in runs] == [
        (pytest.approx(0.2), True),
        (pytest.approx(0.5), False),
    ]
    for arguments, message in {
        (A,): "is active already",
        (B, "--task", "tone"): "There is no task 'tone': there is sentiment",
        (B, "--share", "1.5"): "is not a share",
        (): "Say what to do",
        (B, "--stop"): "Say what to do",
        ("--stop", "--task", "tone"): "There is no task 'tone'",
    }.items():
        with pytest.raises(WrongUse, match=message):
            run(made, "adapters", "shadow", *arguments)
    run(made, "adapters", "shadow", "--stop")
    assert ShadowStore(made.database).running("sentiment") is None
    with pytest.raises(WrongUse, match="Trials that run: none"):
        run(made, "adapters", "shadow", "--stop")
