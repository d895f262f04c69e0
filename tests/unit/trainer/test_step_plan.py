"""How the steps of a fit are cut to the time that there is, and what a fit ends with when time is up."""

from dataclasses import replace

import numpy as np
import pytest

from classifier.settings import ClassifierSettings
from reviews.errors import WrongUse
from tests.tiny import tiny_base
from trainer.data.dataset import Dataset
from trainer.fitting import loop
from trainer.fitting.fit import fit
from trainer.fitting.fit_data import FitRequest, Splits
from trainer.fitting.step_plan import MEASURED_STEPS, WARM_UP_STEPS, StepPlan
from trainer.settings import TrainerSettings

MEASURED = WARM_UP_STEPS + MEASURED_STEPS


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def plan_of(clock: Clock, seconds: float | None, tokens: int = 10, check: int = 0) -> StepPlan:
    """Three epochs of twenty steps, each of one row with so many tokens."""
    epochs = [[[np.array([row])] for row in range(20)] for _ in range(3)]
    return StepPlan(epochs, np.full(20, tokens), check, seconds, clock)


def run_measured(plan: StepPlan, clock: Clock, seconds_a_step: float) -> None:
    for done in range(1, MEASURED + 1):
        clock.now += 100.0 if done == 1 else seconds_a_step
        plan.note_done(done)


def test_without_a_limit_all_steps_of_all_epochs_are_taken():
    plan, clock = plan_of(Clock(), None), Clock()
    run_measured(plan, clock, 1000.0)
    assert (plan.steps, plan.epochs, plan.is_over) == (60, 3, False)
    assert [plan.end_of(epoch) for epoch in range(4)] == [0, 20, 40, 60]


@pytest.mark.parametrize(
    ("seconds", "steps", "epochs"), [(104 + 40, 45, 3), (104 + 15, 20, 1), (104 + 3, 8, 1)]
)
def test_the_steps_are_cut_to_those_that_the_pace_of_the_first_ones_leaves_time_for(seconds, steps, epochs):
    clock = Clock()
    plan = plan_of(clock, seconds)
    run_measured(plan, clock, 1.0)
    assert (plan.steps, plan.epochs) == (steps, epochs)


def test_looks_at_the_validation_rows_take_time_too():
    clock = Clock()
    plan = plan_of(clock, 104 + 50, check=100)  # half of ten steps: 5 s a look, three looks
    run_measured(plan, clock, 1.0)
    assert plan.steps == MEASURED + 35


def test_where_the_time_is_up_the_steps_that_were_taken_remain():
    clock = Clock()
    plan = plan_of(clock, 10)
    run_measured(plan, clock, 1.0)
    assert plan.is_over
    assert (plan.steps, plan.epochs) == (MEASURED, 1)


def test_steps_with_longer_texts_take_longer():
    clock = Clock()
    lengths = np.array([10] * 5 + [100] * 15)
    plan = StepPlan([[[np.array([row])] for row in range(20)]], lengths, 0, 104 + 30, clock)
    run_measured(plan, clock, 1.0)
    assert plan.steps == MEASURED + 3


LABELS = ("no", "yes")


def _rows(count: int, seed: int) -> Dataset:
    random = np.random.default_rng(seed)
    labels = tuple(int(label) for label in random.integers(0, 2, count))
    return Dataset(tuple("ab"[label] * 4 for label in labels), labels, LABELS, f"{seed:064}")


@pytest.fixture(scope="module")
def request_(tmp_path_factory) -> FitRequest:
    base = tiny_base(tmp_path_factory.mktemp("base"))
    classifier = ClassifierSettings(base_model=str(base), device="cpu", precision="fp32", task="letters")
    settings = TrainerSettings(epochs=3, batch_size=4, learning_rate=1e-2)
    return FitRequest(Splits(_rows(40, 0), _rows(16, 1)), classifier, settings)


def _slow(monkeypatch, clock: Clock, seconds_a_step: float) -> None:
    """Every step takes so long, by a clock of its own."""

    class SlowPlan(StepPlan):
        def __init__(self, epochs, lengths, checked_tokens, seconds, _) -> None:
            super().__init__(epochs, lengths, 0, seconds, clock)

        def note_done(self, done):
            clock.now += seconds_a_step
            super().note_done(done)

    monkeypatch.setattr(loop, "StepPlan", SlowPlan)


def test_a_fit_whose_time_is_up_before_the_first_epoch_is_looked_at_once(request_, monkeypatch):
    _slow(monkeypatch, Clock(), 100.0)
    seen = []
    outcome = fit(replace(request_, seconds=250.0), seen.append)
    assert outcome.position.steps == 3
    assert (outcome.position.validated, outcome.position.best_epoch) == (1, 1)
    assert seen[-1].validation is not None
    assert outcome.manifest is not None, "what came out is an adapter like any other"


def test_a_fit_without_any_time_takes_one_step(request_, monkeypatch):
    _slow(monkeypatch, Clock(), 100.0)
    assert fit(replace(request_, seconds=0.0), lambda _: None).position.steps == 1


def test_a_fit_that_is_cut_ends_in_time_with_the_rate_at_its_end(request_, monkeypatch):
    _slow(monkeypatch, Clock(), 1.0)
    seen = []
    outcome = fit(replace(request_, seconds=15.0), seen.append)
    assert 13 <= outcome.position.steps <= 15, "of 30"
    assert outcome.position.validated == 2
    assert seen[-1].steps == outcome.position.steps
    assert seen[-1].learning_rate < 0.2 * 1e-2


def test_a_fit_that_slows_down_keeps_its_best_whole_epoch(request_, monkeypatch):
    clock = Clock()
    _slow(monkeypatch, clock, 1.0)

    def freeze(step) -> None:
        clock.now += 1000.0 if step.step == 12 else 0.0

    outcome = fit(replace(request_, seconds=25.0), freeze)
    assert (outcome.position.steps, outcome.position.validated) == (12, 1)
    assert outcome.position.best_epoch == 1


def test_a_limit_beside_a_checkpoint_is_refused(request_, tmp_path):
    with pytest.raises(WrongUse, match="keeps no checkpoint"):
        fit(replace(request_, seconds=1.0), lambda _: None, tmp_path / "checkpoint")
