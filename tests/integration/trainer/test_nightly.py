"""Nights on a real database: what is better takes over, what is not does not, and the record says why."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from reviews.adapter import Activation
from reviews.errors import ReviewLoopError, Unavailable
from reviews.label import UnpinnedLabel
from reviews.prediction import Prediction
from reviews.queue_item import NewItem
from reviews.slices import SliceShares, slice_of
from storage.adapters.promotion import (
    Consent,
    ConsentMissing,
    carry_out,
    propose_promotion,
    propose_rollback,
)
from storage.adapters.rejected import why_rejected
from storage.labels.queue_contents import QueueContents
from storage.labels.store import LabelStore
from storage.learning.leases import LeaseHeld, LeaseLost, LeaseStore, training_lease
from tests.night_scene import FRESH, T0, TASK, WARM, NightScene, order
from trainer.errors import RunStopped
from trainer.gate.evidence import Scorer
from trainer.nightly.run import Ledger, Parts


@pytest.fixture
def scene(database: str, tiny_model: Path, tmp_path: Path) -> Iterator[NightScene]:
    made = NightScene(database, tiny_model, tmp_path)
    yield made
    made.close()


@pytest.fixture
def labelled(scene: NightScene) -> NightScene:
    """A random adapter serves, and 240 reviews are labelled."""
    scene.serve()
    scene.label(scene.publish(240))
    return scene


class Telling:
    """A ledger that tells a function of every stage first."""

    def __init__(self, inner: Ledger, tell) -> None:
        self._inner = inner
        self._tell = tell

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def reach(self, stage: str) -> None:
        self._tell(stage)
        self._inner.reach(stage)


class BatchMinded:
    """A classifier whose answers depend a little on the batch, as in bf16, and are remembered."""

    def __init__(self, inner: Scorer) -> None:
        self._inner = inner
        self._said: dict[str, Prediction] = {}

    @property
    def labels(self) -> tuple[str, ...]:
        return self._inner.labels

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        new = list(dict.fromkeys(text for text in texts if text not in self._said))
        flat = 0.02 if len(new) > 40 else 0.0  # that much nearer to all the same
        for text, said in zip(new, self._inner.predict(new), strict=True):
            mixed = tuple((1 - flat) * each + flat / len(self.labels) for each in said.probabilities)
            self._said[text] = said._replace(probabilities=mixed)
        return [self._said[text] for text in texts]


def test_a_night_promotes_a_better_candidate_and_writes_down_how(labelled):
    first = labelled.adapters.active(TASK)
    more = labelled.publish(30)  # to be queued
    run = labelled.night(recipes=[WARM, FRESH])
    active = labelled.adapters.active(TASK)
    assert (run.state, run.stage, run.error) == ("promoted", "done", None)
    assert active.version == run.candidate_adapter != first.version
    assert (active.replaced, active.id) == (first.version, run.activation_id)
    assert run.metrics["candidate"]["accuracy"] > run.metrics["active"]["accuracy"] + 0.3
    assert {recipe["name"] for recipe in run.metrics["recipes"]} == {"warm-all", "base-all"}
    assert [check["name"] for check in run.verdict["checks"]][-1] == "probe"
    items = labelled.runs.items(run.id)
    assert len(items) == 240 == sum(run.manifest["rows"].values())
    assert {item.weight for item in items if item.slice in {"train", "validation"}} == {3.0}, "new, uncertain"
    assert {item.weight for item in items if item.slice in {"test", "audit"}} == {1.0}
    queued = labelled.rows("SELECT record, training_run_id FROM label_task")
    assert {record for record, _ in queued} <= {record for record, _, _ in more}
    assert len(queued) >= 10
    assert {number for _, number in queued} == {run.id}
    assert labelled.rows("SELECT 1 FROM drift_report") == [], "nothing was scored yet since the promotion"
    assert LeaseStore(labelled.database).holder(training_lease(TASK)) is None
    found = labelled.adapters.find(active.version)
    chosen = run.metrics["chosen"]
    assert found.parent == (first.version if chosen == "warm-all" else None)


def test_a_candidate_whose_answers_depend_on_the_batch_is_promoted(labelled):
    runner = labelled.runner()
    parts_for = runner._parts_for

    def minded(task: str, active: Activation | None) -> Parts:
        parts = parts_for(task, active)
        return replace(
            parts,
            load=lambda directory: BatchMinded(parts.load(directory)),
            load_registered=lambda version: BatchMinded(parts.load_registered(version)),
        )

    runner._parts_for = minded
    run = runner.run(order())
    assert run.manifest["rows"]["test"] + run.manifest["rows"]["audit"] > 40
    assert run.state == "promoted", run.verdict["reasons"]


def test_a_night_of_wrong_labels_is_refused_with_its_reasons_and_what_serves_goes_on(labelled):
    good = labelled.night()
    assert good.state == "promoted"
    told = labelled.publish(240)
    labelled.label(told, lambda side, truth: truth if side in ("test", "audit") else (truth + 1) % 3)
    wrong = {"name": "new-only", "start": "base", "replay": False, "learning_rate": 1e-2}
    run = labelled.night(recipes=[wrong])
    assert run.state == "kept"
    assert labelled.adapters.active(TASK).version == good.candidate_adapter
    failed = [check["name"] for check in run.verdict["checks"] if not check["passed"]]
    assert "improvement" in failed
    assert run.verdict["reasons"]
    assert run.manifest["new_train_rows"] == run.metrics["recipes"][0]["train_rows"] > 0
    refused = labelled.adapters.find(run.candidate_adapter)
    assert refused.is_rejected
    assert not labelled.adapters.find(good.candidate_adapter).is_rejected
    assert why_rejected(labelled.database, refused.version) == tuple(run.verdict["reasons"])
    proposal = propose_promotion(labelled.database, refused.version)
    with pytest.raises(ConsentMissing, match="The gate rejected"):
        carry_out(
            labelled.database, proposal, decided_by="ann", reason="I say so", consent=Consent(worse=True)
        )
    agreed = Consent(worse=True, rejected=True)
    done = carry_out(labelled.database, proposal, decided_by="ann", reason="I say so", consent=agreed)
    assert (done.version, done.reason) == (refused.version, "I say so")
    assert not labelled.adapters.find(refused.version).is_rejected, "an active adapter is rejected no more"
    back = propose_rollback(labelled.database, TASK)
    carry_out(labelled.database, back, decided_by="ann", reason="It was worse.", consent=Consent())
    again = labelled.night(recipes=[wrong])
    (improvement,) = [check for check in again.verdict["checks"] if check["name"] == "improvement"]
    (before,) = [check for check in run.verdict["checks"] if check["name"] == "improvement"]
    assert improvement["limit"] < before["limit"], "the second look at the same rows must be surer"


def test_an_evaluation_says_what_would_be_and_changes_nothing(labelled):
    waiting = UnpinnedLabel("review-1", TASK, "neutral", "bob", "test", T0)
    LabelStore(labelled.database).add([waiting._replace(review_id="unknown")])
    labelled.publish(30)
    before = labelled.counts()
    told = labelled.runner().evaluate(order())
    assert (told.id, told.state) == (0, "promoted")
    assert told.verdict["promote"]
    assert told.manifest["rows"]["train"] > 100
    assert labelled.counts() == before


def test_the_first_adapter_of_a_task_is_made_from_labels_alone(scene):
    scene.label(scene.publish(240))
    run = scene.night()
    assert (run.state, run.active_adapter) == ("promoted", None)
    assert scene.adapters.active(TASK).version == run.candidate_adapter


def test_a_first_adapter_is_called_by_the_numbers_that_people_gave(scene):
    stars = ("1", "2", "10")
    scene.label(scene.publish(240), names=stars)
    run = scene.night()
    assert run.manifest["left_out"]["other_label"] == 0
    assert run.state == "promoted"
    assert scene.adapters.active(TASK).version == run.candidate_adapter
    assert scene.adapters.find(run.candidate_adapter).labels == stars


@pytest.mark.parametrize(
    ("labelled_reviews", "only", "says"),
    [
        (0, None, "40 more labelled reviews are needed to train on"),
        (60, None, "more labelled reviews are needed to choose by"),
        (240, 1, "among them 5 of 'negative', 5 of 'positive'"),
    ],
)
def test_with_too_few_labels_a_run_waits_says_what_for_and_fills_the_queue(
    scene, labelled_reviews, only, says
):
    active = scene.serve()
    told = scene.publish(labelled_reviews) if labelled_reviews else []
    scene.label(told, None if only is None else lambda *_: only)
    scene.publish(30)
    run = scene.night()
    assert (run.state, run.stage) == ("waiting", "done")
    assert says in " ".join(run.verdict["reasons"])
    assert scene.adapters.active(TASK) == active
    assert scene.counts()["label_task"] >= 10


def test_without_an_adapter_and_without_labels_a_run_waits_for_classes(scene):
    run = scene.night()
    assert run.state == "waiting"
    assert "name nothing so far" in run.verdict["reasons"][0]


def test_a_run_without_a_recipe_that_can_be_fitted_waits_and_says_why_of_each(scene):
    scene.label(scene.publish(240))
    run = scene.night(recipes=[WARM])
    assert (run.state, run.stage) == ("waiting", "done")
    (reason,) = run.verdict["reasons"]
    assert reason.startswith("Recipe warm-all cannot be fitted: No single adapter serves that it could")


def test_of_two_trainers_one_works_and_the_other_says_who_does(labelled):
    second: list[BaseException] = []

    def meanwhile(stage: str) -> None:
        if stage == "evaluate":
            with pytest.raises(LeaseHeld, match=r"works on the task 'sentiment': .+:\d+, until") as refused:
                labelled.night()
            second.append(refused.value)

    run = labelled.runner(lambda ledger: Telling(ledger, meanwhile)).run(order())
    assert (run.state, len(second)) == ("promoted", 1)
    assert labelled.counts()["training_run"] == 1


class Flaky:
    """What a database does: away at each method's first call; of the second, the answer gets lost."""

    def __init__(self, inner: object) -> None:
        self._inner = inner
        self._calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Callable[..., object]:
        def call(*given: object, **named: object) -> object:
            self._calls[name] += 1
            if self._calls[name] == 1:
                raise Unavailable("The database is away.")
            done = getattr(self._inner, name)(*given, **named)
            if self._calls[name] == 2:
                raise Unavailable("The connection broke.")
            return done

        return call

    def __call__(self, *given: object) -> object:
        return self.__getattr__("__call__")(*given)


def test_a_night_in_which_every_call_to_the_database_fails_twice_is_the_same_night(labelled):
    labelled.publish(30)  # to be queued
    runner, flaky = labelled.runner(), []

    def away(task: str, active: Activation | None) -> Parts:
        parts = parts_for(task, active)
        names = ("adapters", "exchange", "directory_of", "load_registered", "attempts_before", "trained_on")
        return replace(parts, **{name: Flaky(getattr(parts, name)) for name in names})

    def wrap(ledger: Ledger) -> Ledger:
        ledger.runs = Flaky(ledger.runs)
        flaky.append(ledger.runs)
        return ledger

    parts_for, runner._parts_for, runner._wrap = runner._parts_for, away, wrap
    run = runner.run(order())
    assert (run.state, run.stage, run.error) == ("promoted", "done", None)
    assert labelled.adapters.active(TASK).version == run.candidate_adapter
    assert len(labelled.adapters.history(TASK)) == 2
    assert len(labelled.runs.history(TASK)) == 1
    assert len(labelled.runs.items(run.id)) == 240
    assert labelled.counts()["label_task"] >= 10
    assert set(flaky[0]._calls) == {"reach", "keep_dataset", "promote", "close", "show"}


def test_a_lease_that_ran_out_while_the_database_was_away_is_taken_up_again(labelled):
    run = labelled.runner(lambda ledger: Telling(ledger, lambda _: labelled.expire_leases())).run(order())
    assert (run.state, run.error) == ("promoted", None)


def test_what_comes_before_a_run_is_done_under_its_lease_and_before_it_looks_at_what_serves(labelled):
    first = labelled.adapters.active(TASK)
    runner, done = labelled.runner(), []

    def before(task: str) -> None:
        held = LeaseStore(labelled.database).holder(training_lease(task))
        done.append((task, held is not None, labelled.serve(seed=9)))

    runner._before = before
    other = LeaseStore(labelled.database).take(training_lease(TASK), "another", 60)
    with pytest.raises(LeaseHeld):
        runner.run(order())
    assert done == []
    LeaseStore(labelled.database).release(other)
    run = runner.run(order())
    ((task, was_held, served),) = done
    assert (task, was_held) == (TASK, True)
    assert run.active_adapter == served.version != first.version


def test_a_trainer_whose_lease_went_to_another_ends_at_the_next_stage_and_promotes_nothing(labelled):
    first = labelled.adapters.active(TASK)
    taken = []

    def lose(stage: str) -> None:
        if stage == "promote":
            labelled.expire_leases()
            taken.append(LeaseStore(labelled.database).take(training_lease(TASK), "another", 60))

    with pytest.raises(LeaseLost):
        labelled.runner(lambda ledger: Telling(ledger, lose)).run(order())
    assert taken[0] is not None
    assert labelled.adapters.active(TASK) == first
    assert labelled.runs.history(TASK)[0].state == "running", "its successor says how it ended"
    LeaseStore(labelled.database).release(taken[0])
    labelled.night()
    assert [run.state for run in labelled.runs.history(TASK)] == ["promoted", "failed"]


def test_a_rollback_during_the_night_is_not_overwritten(labelled):
    by_hand = []

    def roll_back(stage: str) -> None:
        if stage == "promote":
            by_hand.append(labelled.serve(seed=9))

    run = labelled.runner(lambda ledger: Telling(ledger, roll_back)).run(order())
    assert run.state == "kept"
    assert "took over the task" in run.verdict["reasons"][-1]
    assert labelled.adapters.active(TASK) == by_hand[0]


def test_a_run_that_is_stopped_is_written_down_so_and_gives_its_lease_back(labelled):
    stopping = Event()

    def stop(stage: str) -> None:
        if stage == "evaluate":
            stopping.set()

    with pytest.raises(RunStopped):
        labelled.runner(lambda ledger: Telling(ledger, stop), stopping).run(order())
    (run,) = labelled.runs.history(TASK)
    assert (run.state, run.stage) == ("failed", "fit")
    assert "was stopped" in run.error
    assert run.finished_at is not None
    assert LeaseStore(labelled.database).holder(training_lease(TASK)) is None


def test_what_goes_wrong_after_the_promotion_does_not_undo_it(labelled):
    def fail(stage: str) -> None:
        if stage == "queue":
            raise ReviewLoopError("The queue is closed.")

    with pytest.raises(ReviewLoopError, match="queue is closed"):
        labelled.runner(lambda ledger: Telling(ledger, fail)).run(order())
    (run,) = labelled.runs.history(TASK)
    assert (run.state, run.error) == ("promoted", "The queue is closed.")
    assert labelled.adapters.active(TASK).version == run.candidate_adapter


def test_labels_are_pinned_and_items_closed_first_and_edited_reviews_are_asked_again(scene):
    scene.serve()
    LabelStore(scene.database).add(
        [UnpinnedLabel("review-3", TASK, "neutral", "ann", "test", T0.replace(year=2027))]
    )
    told = scene.publish(10)
    QueueContents(scene.database).add([NewItem(told[0][0], TASK, "uncertain", "margin", 0.5)])
    scene.label(told[:1])
    ((edited, _, _),) = scene.publish(1, edit=told[0][1])
    run = scene.night()
    assert sum(run.manifest["rows"].values()) == 2, "the waiting label and the other"
    assert scene.counts()["waiting_label"] == 0
    assert scene.rows(f"SELECT state FROM label_task WHERE record = {told[0][0]}") == [("done",)]
    assert {item.record for item in scene.runs.items(run.id)} >= {told[0][0]}, (
        "the old record keeps its label"
    )
    state = f"SELECT reason, state FROM label_task WHERE record = {edited}"
    assert scene.rows(state) == [("edited", "open")]
    scene.execute(f"UPDATE label_task SET state = 'skipped' WHERE record = {edited}")
    scene.night()
    assert scene.rows(state) == [("edited", "skipped")], "who passed on it is not asked again every night"


def test_no_more_edited_reviews_are_asked_about_a_night_than_it_has_items(scene):
    scene.serve()
    told = scene.publish(14)
    scene.label(told)
    edited = [record for _, review_id, _ in told for record, _, _ in scene.publish(1, edit=review_id)]
    asked = "SELECT record FROM label_task WHERE reason = 'edited' ORDER BY record"
    scene.night()
    assert scene.rows(asked) == [(record,) for record in edited[:10]]
    scene.execute(f"DELETE FROM label_task WHERE record > {edited[9]}")  # chosen as any others are
    scene.night()
    assert scene.rows(asked) == [(record,) for record in edited]


def test_what_an_adapter_on_trial_calls_something_else_is_asked_about_but_for_the_audit_slice(scene):
    tried = scene.serve().version
    scene.serve(seed=2)
    told = scene.publish(8, shadow=tried)
    scene.publish(8)
    scene.night()
    disputed = "SELECT record FROM label_task WHERE reason = 'disagreement' AND strategy = 'shadow'"
    audit = {record for record, review_id, _ in told if slice_of(review_id, SliceShares()) == "audit"}
    assert audit, "or the last line would say nothing of them"
    assert {record for (record,) in scene.rows(disputed)} == {record for record, _, _ in told} - audit


def test_tasks_have_leases_of_their_own(labelled):
    done: list[str] = []

    def meanwhile(stage: str) -> None:
        if stage == "evaluate":
            other = replace(order(), task="tone")
            thread = threading.Thread(target=lambda: done.append(labelled.runner().run(other).state))
            thread.start()
            thread.join()

    labelled.runner(lambda ledger: Telling(ledger, meanwhile)).run(order())
    assert done == ["waiting"]
