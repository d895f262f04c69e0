"""Which recipes are fitted tonight, in which order, and how they are compared."""

from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import ValidationError

from reviews.errors import ModelError
from tests.unit.trainer.nightly.rows import (
    ACTIVE,
    RECIPES,
    SETTINGS,
    nightly,
    records,
    snapshot,
)
from trainer.errors import TrainingStopped
from trainer.fitting.fit_data import SplitPredictions
from trainer.nightly.candidates import (
    Fitted,
    Plan,
    Skipped,
    best,
    fit_within,
    forecast,
    pace,
    plan_fits,
)
from trainer.nightly.cross_checks import Checked, RecipeChecks
from trainer.settings import DEFAULT_RECIPES, NightlySettings, RecipeSettings


@dataclass
class Clock:
    """A clock that fits put forward."""

    now: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    given: dict[str, float] = field(default_factory=dict)

    def __call__(self) -> float:
        return self.now

    def fit(self, one: Plan, seconds: float) -> Fitted:
        self.given[one.name] = seconds
        self.now += self.seconds.get(one.name, 10.0)
        outcome = SimpleNamespace(position=SimpleNamespace(steps=self.steps.get(one.name, one.steps)))
        return Fitted(one, outcome, _checks(self.scores.get(one.name, 0.5)), "rows")


def _plans(rows: dict[str, int]) -> list[Plan]:
    train = snapshot(1000).of("train")
    return [Plan(name, None, train[:count], SETTINGS) for name, count in rows.items()]


def test_recipes_that_would_not_end_in_time_are_left_out_and_smaller_ones_still_come():
    clock = Clock(seconds={"first": 40.0})
    done, skipped = fit_within(_plans({"first": 200, "big": 200, "small": 50}), 60, clock.fit, clock)
    assert [one.plan.name for one in done] == ["first", "small"]
    assert [one.seconds for one in done] == [40.0, 10.0]
    assert [(one.name, one.reason) for one in skipped] == [
        ("big", "It would take about 40 s; 20 s of the budget are left.")
    ]


def test_the_first_recipe_is_fitted_however_small_the_budget_is():
    clock = Clock()
    done, skipped = fit_within(_plans({"first": 100, "next": 100}), 0, clock.fit, clock)
    assert ([one.plan.name for one in done], [one.name for one in skipped]) == (
        ["first"],
        ["next"],
    )


def test_a_recipe_without_a_budget_is_not_said_to_take_no_time_where_no_fit_tells_the_pace():
    clock = Clock(seconds={"head": 70.0})
    head, warm = _plans({"head": 50, "warm": 200})
    head = replace(head, settings=head.settings.model_copy(update={"epochs": 0}))
    _, skipped = fit_within([head, warm], 60, clock.fit, clock)
    assert [one.reason for one in skipped] == ["The 60 s of the budget were used up before it."]


def test_each_recipe_gets_the_time_that_is_left_of_the_budget():
    clock = Clock(seconds={"a": 30.0})
    fit_within(_plans({"a": 50, "b": 50}), 100, clock.fit, clock)
    assert clock.given == {"a": 100.0, "b": 70.0}


def test_the_pace_is_that_of_the_steps_that_were_taken_not_of_those_that_were_planned():
    clock = Clock(seconds={"first": 50.0}, steps={"first": 10})
    _, skipped = fit_within(_plans({"first": 200, "next": 100}), 100, clock.fit, clock)
    assert [(one.name, one.reason) for one in skipped] == [
        ("next", "It would take about 100 s; 50 s of the budget are left.")
    ]


def test_recipes_that_take_no_steps_leave_the_first_that_does_its_turn():
    clock = Clock(seconds={"warm": 45.0})
    head, warm, slow = _plans({"head": 50, "warm": 200, "slow": 200})
    head = replace(head, settings=head.settings.model_copy(update={"epochs": 0}))
    assert head.steps == 0
    done, skipped = fit_within([head, warm, slow], 60, clock.fit, clock, seconds_a_step=10.0)
    assert [one.plan.name for one in done] == ["head", "warm"]
    assert clock.given["warm"] == 50.0, "cut to what there is time for"
    assert [one.name for one in skipped] == ["slow"]


def test_by_default_lora_waits_until_there_are_rows_enough():
    settings = SETTINGS.model_copy(update={"nightly": NightlySettings(enough_validation_rows=1)})
    for rows, fitted in (
        (150, ["head-active", "head-base"]),
        (400, [one.name for one in DEFAULT_RECIPES[:4]]),
    ):
        plans, _ = plan_fits(snapshot(rows), settings, ACTIVE, seed=0)
        clock = Clock()
        done, skipped = fit_within(plans, 1000, clock.fit, clock)
        assert [one.plan.name for one in done] == fitted
        assert {one.name for one in skipped} == {one.name for one in DEFAULT_RECIPES} - {*fitted}


def test_a_recipe_that_waits_for_rows_is_fitted_where_no_other_could_be():
    clock = Clock()
    head, lora = _plans({"head": 99, "lora": 99})
    lora = replace(lora, rows_to_begin=100)
    done, skipped = fit_within([head, lora], 1000, clock.fit, clock)
    assert [one.plan.name for one in done] == ["head"]
    why = "It waits for 100 training rows; there are 99."
    assert [(one.name, one.reason) for one in skipped] == [("lora", why)]
    planned, late = forecast([head, lora], 1000, 1.0)
    assert ([one["name"] for one in planned], [one.reason for one in late]) == (["head"], [why])
    done, _ = fit_within([head, replace(lora, rows_to_begin=99)], 1000, clock.fit, clock)
    assert [one.plan.name for one in done] == ["head", "lora"]

    def has_no_space(plan: Plan, seconds: float) -> Fitted:
        if plan is head:
            raise ModelError("This base has no mean that stands for a text.")
        return clock.fit(plan, seconds)

    done, skipped = fit_within([head, lora], 1000, has_no_space, clock)
    assert ([one.plan.name for one in done], [one.name for one in skipped]) == (["lora"], ["head"])


def test_a_recipe_that_there_was_no_time_to_cross_check_takes_no_part_beside_others_that_were():
    folds = {"checked": (1.0, 1.0), "quick": ()}
    clock = Clock(scores={"checked": 0.4, "quick": 0.8})

    def fit(one: Plan, seconds: float) -> Fitted:
        return replace(clock.fit(one, seconds), checks=_checks(clock.scores[one.name], folds[one.name]))

    plans = _plans({"quick": 50, "checked": 50})
    done, skipped = fit_within(plans, 1000, fit, clock)
    assert [(one.plan.name, one.score) for one in done] == [("checked", 1.0)]
    assert [one.name for one in skipped] == ["quick"]
    assert "no time for its cross-checks" in skipped[0].reason
    done, skipped = fit_within(plans[:1], 1000, fit, clock)
    assert ([one.plan.name for one in done], skipped) == (["quick"], [])


def test_a_recipe_that_diverges_leaves_the_others_in_the_race_and_is_named():
    clock = Clock()

    def fit(one: Plan, seconds: float) -> Fitted:
        if one.name != "sound":
            raise TrainingStopped(f"{one.name} diverged")
        return clock.fit(one, seconds)

    done, skipped = fit_within(_plans({"wild": 50, "sound": 50}), 1000, fit, clock)
    assert [one.plan.name for one in done] == ["sound"]
    assert skipped == [Skipped("wild", "wild diverged")]
    with pytest.raises(TrainingStopped, match="wild diverged"):
        fit_within(_plans({"wild": 50}), 1000, fit, clock)


def _checks(score, folds=()):
    """What was right on so large a share of validation rows, and of folds; macro-F1 is the same share."""
    return RecipeChecks(_right_on(score), tuple(Checked((), _right_on(fold)) for fold in folds))


def _right_on(share):
    truth = np.repeat([0, 1], 10)
    said = np.concatenate([np.arange(10) >= round(10 * share), np.arange(10) < round(10 * share)])
    return SplitPredictions(np.eye(2)[said.astype(int)], truth)


def test_what_is_better_beyond_chance_is_chosen_and_of_equals_the_first():
    clock = Clock(scores={"b": 0.9, "c": 0.9})
    done, _ = fit_within(_plans({"a": 50, "b": 50, "c": 50}), 1000, clock.fit, clock)
    assert (best(done).plan.name, best(done).chosen_by) == ("b", "rows")


def test_a_recipe_is_chosen_before_a_better_one_by_chance_and_the_run_says_so():
    truth, place = np.tile([0, 1], 10), np.arange(20)
    wrong = {"a": place < 6, "b": place >= 16}  # on other rows: 14 and 16 of 20 are right
    chosen = best(
        [
            Fitted(
                plan, None, RecipeChecks(SplitPredictions(np.eye(2)[truth ^ wrong[plan.name]], truth)), "rows"
            )
            for plan in _plans({"a": 50, "b": 50})
        ]
    )
    assert chosen.plan.name == "a"
    assert chosen.chosen_by == "rows; b is better by no more than a standard error"


def test_a_forecast_takes_the_pace_of_earlier_fits_and_leaves_out_what_the_budget_does():
    plans = _plans({"first": 200, "big": 200, "small": 50})
    told = [{"steps": 30, "seconds": 20.0}, {"steps": 10, "seconds": 20.0}]
    planned, late = forecast(plans, 60, pace(told))
    assert [(one["name"], one["seconds"]) for one in planned] == [("first", 40.0), ("small", 10.0)]
    assert [one.name for one in late] == ["big"]
    planned, late = forecast(plans, 20, pace(told))
    assert [(one["steps"], one["planned_steps"], one["seconds"]) for one in planned] == [(20, 40, 20)]
    assert [one.name for one in late] == ["big", "small"]
    planned, late = forecast(plans, 60, pace([]))
    assert [one["seconds"] for one in planned] == [None] * 3
    assert not late


def test_steps_are_those_of_the_fitting_loop():
    from trainer.fitting.loop import length_grouped_batches

    for rows in (1, 10, 11, 200):
        (one,) = _plans({"x": rows})
        batches = length_grouped_batches(np.ones(rows, int), 10, 0, 0)
        assert one.steps == 2 * len(batches)


def test_heads_are_fitted_first_take_no_steps_and_tell_nothing_of_how_long_a_step_takes():
    plans, _ = plan_fits(snapshot(400), nightly(recipes=(*RECIPES[2:], *RECIPES[:2])), ACTIVE, seed=0)
    assert [(one.kind, one.continues_from) for one in plans[-2:]] == [("head", ACTIVE), ("head", None)]
    assert [one.steps for one in plans[-2:]] == [0, 0]
    clock = Clock(seconds={"head-active": 50.0, "head-base": 1.0, "warm-all-slow": 40.0})
    done, skipped = fit_within(plans, 100, clock.fit, clock)
    assert list(clock.given) == ["head-active", "head-base", "warm-all-slow"]
    assert [one.plan.name for one in done] == ["warm-all-slow", "head-active", "head-base"], "as planned"
    assert "It would take about 40 s" in skipped[0].reason
    told = [{"steps": 0, "seconds": 50.0}, {"steps": 10, "seconds": 20.0}]
    assert pace(told) == 2.0
    assert pace(told[:1]) is None


def test_a_head_has_no_learning_rate_and_lora_has_one():
    for wrong in ({"kind": "head", "learning_rate": 1e-3}, {"kind": "lora"}):
        with pytest.raises(ValidationError, match="learning_rate"):
            RecipeSettings(name="x", start="base", **wrong)


def test_a_night_without_an_adapter_starts_from_the_base_alone():
    plans, skipped = plan_fits(snapshot(400), nightly(), None, seed=3)
    assert [one.name for one in plans] == ["head-base", "base-all"]
    assert {one.settings.seed for one in plans} == {3}
    assert all("No single adapter serves" in one.reason for one in skipped)


def test_without_older_rows_a_recipe_without_replay_is_not_fitted_twice():
    plans, skipped = plan_fits(snapshot(400), nightly(), ACTIVE, seed=0)
    names = ["head-active", "head-base", "warm-all-slow", "base-all", "warm-all-fast"]
    assert [one.name for one in plans] == names
    assert [(one.name, one.reason) for one in skipped] == [
        ("warm-new-slow", "In this run it is the same as warm-all-slow: there are no older rows.")
    ]


def test_without_replay_only_new_rows_are_trained_on_and_only_if_there_are_enough():
    frozen = snapshot(400, frozenset(range(300)))
    plans, skipped = plan_fits(frozen, nightly(), ACTIVE, seed=0)
    (new,) = [one for one in plans if one.name == "warm-new-slow"]
    assert records(new.rows) == {number for number in records(frozen.of("train")) if number >= 300}
    assert new.continues_from == ACTIVE
    assert not skipped
    _, skipped = plan_fits(snapshot(400, frozenset(range(395))), nightly(), ACTIVE, seed=0)
    assert [one.name for one in skipped] == ["warm-new-slow"]
    assert "Too few new rows of" in skipped[0].reason


def test_of_a_label_that_validation_rows_alone_have_heads_are_fitted_and_lora_is_not():
    frozen = snapshot(300)
    rows = tuple(row for row in frozen.rows if row.slice != "train" or row.label == 1)
    plans, skipped = plan_fits(replace(frozen, rows=rows), nightly(enough_validation_rows=1000), ACTIVE, 0)
    assert [one.name for one in plans] == ["head-active", "head-base"]
    assert {one.reason for one in skipped} == {
        "Too few rows of no to train on: 2 are needed.",
        "Too few new rows of no to train on: 2 are needed.",
    }
    plans, _ = plan_fits(replace(frozen, rows=rows), nightly(enough_validation_rows=1), ACTIVE, 0)
    assert plans == []


def test_each_kind_of_the_default_recipes_begins_with_what_serves_and_afresh():
    starts = [(one.kind, one.start) for one in DEFAULT_RECIPES]
    assert sorted(starts) == [
        (kind, start) for kind in ("head", "lora", "refit") for start in ("active", "base")
    ]
    assert len({one.name for one in DEFAULT_RECIPES}) == len(DEFAULT_RECIPES)
