"""Nights after the labels of a task changed: the old adapter serves until one with the new labels passes."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from classifier.adapters.manifest import describe_adapter, read_files
from reviews.label_set import LabelChange
from reviews.slices import SliceShares
from storage.adapters.comparison import side_by_side
from storage.adapters.shadows import ShadowStore
from storage.labels.label_sets import LabelSetStore
from storage.learning.disagreements import disagreements
from storage.windows import WindowStore
from tests.night_scene import FRESH, T0, TASK, WARM, NightScene
from tests.tiny import SENTIMENTS, tiny_adapter

MERGED = ("not positive", "positive")
MERGE = LabelChange("merge", ("negative", "neutral"), ("not positive",))
SPLIT = LabelChange("split", ("neutral",), ("mixed", "no opinion"))


@pytest.fixture
def served(database: str, tiny_model: Path, tmp_path: Path) -> Iterator[NightScene]:
    """An adapter that learned 240 labelled reviews serves."""
    made = NightScene(database, tiny_model, tmp_path)
    made.serve()
    made.label(made.publish(240))
    assert made.night().state == "promoted"
    yield made
    made.close()


def _checks(run) -> dict[str, bool]:
    return {check["name"]: check["passed"] for check in run.verdict["checks"]}


def test_after_a_rename_and_a_merge_the_first_adapter_that_is_not_worse_on_common_labels_takes_over(served):
    old = served.adapters.active(TASK)
    labels = LabelSetStore(served.database)
    labels.declare(TASK, MERGE, "eve")
    labels.declare(TASK, LabelChange("rename", ("positive",), ("good",)), "eve")
    assert served.adapters.active(TASK) == old, "it serves on"
    run = served.night(recipes=[WARM, FRESH])
    assert run.state == "promoted", run.verdict["reasons"]
    assert run.manifest["labels"] == ["not positive", "good"]
    assert sum(run.manifest["rows"].values()) == 240, "every old answer counts under its new name"
    fitted = {recipe["name"]: recipe["start"] for recipe in run.metrics["recipes"]}
    assert fitted == {"warm-all": "active", "base-all": "base"}
    parent = served.adapters.find(run.candidate_adapter).parent
    assert parent == (old.version if run.metrics["chosen"] == "warm-all" else None)
    common = run.metrics["on_common_labels"]
    assert (common["labels"], common["left_out"]) == (["not positive", "good"], 0)
    assert common["active"]["accuracy"] > 0.9, "the old adapter is judged by what it means now"
    assert _checks(run)["replacement"]
    assert "improvement" not in _checks(run)
    active = served.adapters.find(served.adapters.active(TASK).version)
    assert active.labels == ("not positive", "good")
    assert "improvement" in _checks(served.night()), "from now on a candidate has to be better"


def test_what_the_old_adapter_knew_is_there_in_the_first_run_after_a_change(served):
    old = served.adapters.active(TASK)
    LabelSetStore(served.database).declare(TASK, LabelChange("rename", ("neutral",), ("mixed",)), "eve")
    barely = {"name": "barely", "start": "active", "replay": True, "learning_rate": 1e-9}
    run = served.night(recipes=[barely])
    assert run.metrics["candidate"]["accuracy"] == run.metrics["on_common_labels"]["active"]["accuracy"] > 0.9
    assert run.state == "promoted", run.verdict["reasons"]
    renamed = served.adapters.find(run.candidate_adapter)
    assert (renamed.labels, renamed.parent) == (("negative", "mixed", "positive"), old.version)


def test_a_candidate_with_the_new_labels_that_is_worse_on_common_ones_leaves_the_old_adapter_serving(served):
    old = served.adapters.active(TASK)
    LabelSetStore(served.database).declare(TASK, MERGE, "eve")
    told = served.publish(240)
    names = ("not positive", "not positive", "positive")
    served.label(told, lambda side, truth: truth if side in ("test", "audit") else 2 - truth, names)
    wrong = {"name": "new-only", "start": "base", "replay": False, "learning_rate": 1e-2}
    run = served.night(recipes=[wrong])
    assert run.state == "kept"
    assert not _checks(run)["replacement"]
    assert served.adapters.active(TASK) == old
    served.label(told, names=names)
    assert served.night().state == "promoted", "the labels were put right"


def test_after_a_split_runs_wait_for_new_answers_and_compare_where_the_old_adapter_can_tell(served):
    old = served.adapters.active(TASK)
    effect = LabelSetStore(served.database).declare(TASK, SPLIT, "eve", ask_again=100)
    assert effect.taken_back == effect.asked_again > 50
    run = served.night()
    assert run.state == "waiting"
    assert "of 'mixed'" in run.verdict["reasons"][0]
    told = served.publish(240)
    served.label(told, names=("negative", "mixed", "positive"))
    neutral = [one for one in served.publish(240) if one[2] == SENTIMENTS.index("neutral")]
    served.label(neutral, names=("", "no opinion", ""))
    run = served.night()
    assert run.metrics["on_common_labels"]["labels"] == ["negative", "mixed or no opinion", "positive"]
    assert run.metrics["on_common_labels"]["left_out"] == 0
    assert _checks(run)["replacement"], run.verdict["reasons"]
    assert (run.state == "promoted") == (served.adapters.active(TASK) != old)


def test_what_two_adapters_call_differently_and_mean_the_same_is_no_disagreement(
    database: str, tiny_model: Path, tmp_path: Path
):
    scene = NightScene(database, tiny_model, tmp_path)
    with closing(scene):
        served = scene.serve().version
        manifest, files = read_files(
            tiny_adapter(tiny_model, tmp_path / "tried", labels=("negative", "positive"))
        )
        tried = describe_adapter(manifest)
        scene.adapters.add(tried, files)
        store = ShadowStore(scene.database)
        run = store.start(tried, 1.0, "eve")
        told = scene.publish(20, shadow=tried.version)  # neutral, says the one; positive, the other
        shares, since = SliceShares(), T0 - timedelta(days=1)
        assert store.agreement(run)[1:] == (20, 0)
        assert store.same_labels(run, [served]) == frozenset()
        asked = len(disagreements(scene.database, TASK, since, shares))
        assert asked > 10
        LabelSetStore(scene.database).declare(
            TASK, LabelChange("merge", ("neutral", "positive"), ("positive",)), "eve"
        )
        scene.label(told[:5], names=("negative", "positive", "positive"))
        assert store.agreement(run)[1:] == (20, 20)
        assert store.disputed(run) == []
        assert disagreements(scene.database, TASK, since, shares) == []
        assert store.same_labels(run, [served]) == {("neutral", "positive")}
        found = side_by_side(scene.database, TASK, served, tried.version)
        assert (found.reviews, found.agreed, found.examples) == (20, 20, ())
        active = WindowStore(scene.database).active(TASK)
        assert active is not None
        assert (active.labels, active.called) == (SENTIMENTS, ("negative", "positive", "positive"))
