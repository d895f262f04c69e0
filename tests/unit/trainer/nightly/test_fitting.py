"""Which recipes are fitted tonight, in which order, and how they are compared."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import ValidationError

from classifier.settings import ClassifierSettings
from reviews.errors import ModelError
from reviews.slices import SliceShares, slice_of
from tests.unit.trainer.nightly.rows import NAMES, records, review, snapshot
from trainer.data.near_duplicates import words
from trainer.errors import TrainingStopped
from trainer.fitting.fit_data import SplitPredictions
from trainer.nightly.candidates import (
    CandidateFitter,
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
from trainer.nightly.snapshot import freeze
from trainer.settings import DEFAULT_RECIPES, NightlySettings, RecipeSettings, TrainerSettings

ACTIVE = Path("active")
SHARES = SliceShares()
SETTINGS = TrainerSettings(batch_size=10, epochs=2, least_steps=0)
RECIPES = (
    RecipeSettings(name="head-active", kind="head", start="active"),
    RecipeSettings(name="head-base", kind="head", start="base"),
    RecipeSettings(name="warm-all-slow", start="active", learning_rate=1e-4),
    RecipeSettings(name="base-all", start="base", learning_rate=5e-4),
    RecipeSettings(name="warm-all-fast", start="active", learning_rate=5e-4),
    RecipeSettings(name="warm-new-slow", start="active", replay=False, learning_rate=1e-4),
)


def _nightly(**values) -> TrainerSettings:
    return SETTINGS.model_copy(update={"nightly": NightlySettings(**{"recipes": RECIPES, **values})})


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
    plans, _ = plan_fits(snapshot(400), _nightly(recipes=(*RECIPES[2:], *RECIPES[:2])), ACTIVE, seed=0)
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


def test_a_refit_takes_the_steps_of_lora_and_its_head_trains_on_few_validation_rows():
    recipe = RecipeSettings(name="again", kind="refit", start="base", learning_rate=1e-3)
    frozen, settings = snapshot(300), _nightly(recipes=(recipe,), enough_validation_rows=1000)
    (plan,), _ = plan_fits(frozen, settings, None, seed=0)
    assert plan.steps == replace(plan, kind="lora").steps > 0
    _, (whole, *_) = _compared(frozen, settings, "again")
    assert (whole.kind, whole.learns_validation) == ("refit", True)


def test_a_head_has_no_learning_rate_and_lora_has_one():
    for wrong in ({"kind": "head", "learning_rate": 1e-3}, {"kind": "lora"}):
        with pytest.raises(ValidationError, match="learning_rate"):
            RecipeSettings(name="x", start="base", **wrong)


def test_a_cross_check_of_a_head_makes_no_files_and_its_candidate_does():
    frozen = snapshot(300)
    _, runs = _compared(frozen, _nightly(enough_validation_rows=1000), name="head-base")
    assert [(run.kind, run.is_check) for run in runs] == [("head", False)] + [("head", True)] * 3


def test_a_night_without_an_adapter_starts_from_the_base_alone():
    plans, skipped = plan_fits(snapshot(400), _nightly(), None, seed=3)
    assert [one.name for one in plans] == ["head-base", "base-all"]
    assert {one.settings.seed for one in plans} == {3}
    assert all("No single adapter serves" in one.reason for one in skipped)


def test_without_older_rows_a_recipe_without_replay_is_not_fitted_twice():
    plans, skipped = plan_fits(snapshot(400), _nightly(), ACTIVE, seed=0)
    names = ["head-active", "head-base", "warm-all-slow", "base-all", "warm-all-fast"]
    assert [one.name for one in plans] == names
    assert [(one.name, one.reason) for one in skipped] == [
        ("warm-new-slow", "In this run it is the same as warm-all-slow: there are no older rows.")
    ]


def test_without_replay_only_new_rows_are_trained_on_and_only_if_there_are_enough():
    frozen = snapshot(400, frozenset(range(300)))
    plans, skipped = plan_fits(frozen, _nightly(), ACTIVE, seed=0)
    (new,) = [one for one in plans if one.name == "warm-new-slow"]
    assert records(new.rows) == {number for number in records(frozen.of("train")) if number >= 300}
    assert new.continues_from == ACTIVE
    assert not skipped
    _, skipped = plan_fits(snapshot(400, frozenset(range(395))), _nightly(), ACTIVE, seed=0)
    assert [one.name for one in skipped] == ["warm-new-slow"]
    assert "Too few new rows of" in skipped[0].reason


def test_of_a_label_that_validation_rows_alone_have_heads_are_fitted_and_lora_is_not():
    frozen = snapshot(300)
    rows = tuple(row for row in frozen.rows if row.slice != "train" or row.label == 1)
    plans, skipped = plan_fits(replace(frozen, rows=rows), _nightly(enough_validation_rows=1000), ACTIVE, 0)
    assert [one.name for one in plans] == ["head-active", "head-base"]
    assert {one.reason for one in skipped} == {
        "Too few rows of no to train on: 2 are needed.",
        "Too few new rows of no to train on: 2 are needed.",
    }
    plans, _ = plan_fits(replace(frozen, rows=rows), _nightly(enough_validation_rows=1), ACTIVE, 0)
    assert plans == []


class Fits:
    """Notes what is fitted; says of every row that it is a yes."""

    def __init__(self) -> None:
        self.runs = []

    def __call__(self, run, report):
        report(None)
        self.runs.append(run)
        splits = {"validation": run.splits.validation, "test": run.splits.test}
        said = {
            name: SplitPredictions(np.tile([0.1, 0.9], (len(rows), 1)), np.array(rows.labels))
            for name, rows in splits.items()
            if rows is not None
        }
        return SimpleNamespace(measured=SimpleNamespace(predictions=said))


def _compared(frozen, nightly, name="base-all"):
    fits = Fits()
    plans, _ = plan_fits(frozen, nightly, ACTIVE, seed=0)
    fitter = CandidateFitter(frozen, ClassifierSettings(), fits, lambda _: lambda _: None, seed=0)
    return fitter.candidate_of(next(one for one in plans if one.name == name)), fits.runs


def test_with_enough_new_validation_rows_those_alone_compare_and_calibrate():
    frozen = snapshot(600, frozenset(range(300)))
    new = [row.review.text for row in frozen.of("validation") if row.is_new]
    assert 0 < len(new) < len(frozen.of("validation"))
    for name in ("head-active", "warm-all-fast"):
        for enough, texts in ((len(new), new), (len(new) + 1, None)):
            _, (run, *_) = _compared(frozen, _nightly(enough_validation_rows=enough), name)
            wanted = [row.review.text for row in frozen.of("validation")] if texts is None else texts
            assert list(run.splits.validation.texts) == wanted


def test_no_head_is_calibrated_on_what_models_answered():
    reviews = [review(number, NAMES[number % 2], by_models=number % 4 > 1) for number in range(400)]
    settings = NightlySettings()
    frozen = freeze(reviews, NAMES, settings.shares, lambda *_: 1.0, frozenset(range(100)))
    _, (run, *_) = _compared(frozen, _nightly(enough_validation_rows=1000), "head-active")
    learned = [*frozen.of("train"), *frozen.of("validation")]
    assert any(row.is_new and row.review.by_models for row in learned)
    assert run.is_new == tuple(row.is_new and not row.review.by_models for row in learned)


def test_a_recipe_shares_its_time_with_its_cross_checks_without_which_nothing_is_evidence_for_the_gate():
    frozen = snapshot(300, frozenset(range(150)))
    fits, ticks = Fits(), iter(range(0, 1000, 30))
    plans, _ = plan_fits(frozen, _nightly(enough_validation_rows=1000, cross_check_folds=3), ACTIVE, seed=0)
    fitter = CandidateFitter(
        frozen, ClassifierSettings(), fits, lambda _: lambda _: None, seed=0, clock=lambda: next(ticks)
    )
    whole = fitter.candidate_of(plans[0], 120.0)  # a fit takes 30 s
    assert whole.chosen_by.endswith("in 3 cross-checks")
    assert len(whole.checks.folds) == 3
    assert [run.seconds for run in fits.runs] == [30.0] * 4
    late = fitter.candidate_of(plans[0], 29.0)
    assert late.chosen_by.endswith("without cross-checks for lack of time")
    assert not late.checks.folds
    assert len(fits.runs) == 4 + 1
    fitter.candidate_of(plans[0])
    assert [run.seconds for run in fits.runs[5:]] == [None] * 4


def test_validation_rows_that_the_active_adapter_was_trained_on_are_none_to_choose_by():
    frozen = snapshot(1000)
    some = [row.review.record for row in frozen.of("validation")][::2]
    fitted, runs = _compared(snapshot(1000, frozenset(some)), _nightly(enough_validation_rows=len(some) + 9))
    assert "cross-checks" in fitted.chosen_by
    assert len(runs) == 1 + 3


def test_with_enough_validation_rows_these_alone_compare_recipes():
    frozen = snapshot(1000)
    fitted, runs = _compared(frozen, _nightly(enough_validation_rows=60))
    validation = len(frozen.of("validation"))
    assert fitted.chosen_by == f"{validation} validation rows"
    assert len(runs) == 1
    assert runs[0].splits.train.weights is not None
    assert fitted.score == pytest.approx(1 / 3, abs=0.03), "macro-F1 of always saying yes"


@pytest.mark.parametrize("name", ["base-all", "warm-new-slow", "head-base"])
def test_with_few_validation_rows_new_rows_are_held_out_in_turns_and_never_trained_on_then(name):
    frozen = snapshot(300, frozenset(range(150)))
    fitted, runs = _compared(frozen, _nightly(enough_validation_rows=1000, cross_check_folds=3), name)
    assert "(few: 1000 are enough) and" in fitted.chosen_by
    whole, *parts = runs
    assert len(parts) == 3
    held = [text for part in parts for text in part.splits.test.texts]
    new = {row.review.text for row in frozen.of("train", "validation") if row.is_new}
    assert len(held) == len(set(held)) == len(new)
    assert set(held) == new, "rows that the active adapter learned by heart compare nothing"
    for part in parts:
        for rows, of_all in (
            (part.splits.train, whole.splits.train),
            (part.splits.validation, whole.splits.validation),
        ):
            assert not set(part.splits.test.texts) & set(rows.texts)
            assert set(rows.texts) < set(of_all.texts)
            assert len(rows) > len(of_all) / 2, "enough are left to choose an epoch by"


def test_a_head_that_continues_from_the_active_one_is_told_which_rows_that_does_not_know():
    frozen = snapshot(300, frozenset(range(150)))
    nightly = _nightly(enough_validation_rows=1000)
    _, (whole, part, *_) = _compared(frozen, nightly, "head-active")
    new = {row.review.text for row in frozen.rows if row.is_new}
    for run in (whole, part):
        texts = run.splits.train.texts + run.splits.validation.texts
        assert run.is_new == tuple(text in new for text in texts)
        assert set(run.is_new) == {True, False}
    for name in ("head-base", "warm-all-slow"):
        assert _compared(frozen, nightly, name)[1][0].is_new is None, "they continue from no head"


def test_with_few_validation_rows_heads_train_on_them_and_lora_does_not():
    frozen = snapshot(300)
    train, validation = (len(frozen.of(slice_)) for slice_ in ("train", "validation"))
    for enough, name, learns in (
        (1000, "head-base", True),
        (1000, "base-all", False),
        (20, "head-base", False),
    ):
        _, (whole, *parts) = _compared(frozen, _nightly(enough_validation_rows=enough), name)
        assert {one.learns_validation for one in (whole, *parts)} == {learns}
        assert len(whole.speaks_for) == train + (validation if learns else 0)
        assert (whole.splits.validation.weights is not None) == learns


def test_what_a_fold_says_is_not_trained_on_in_another_copy_or_another_version_of_its_review():
    settings = _nightly(enough_validation_rows=1000, cross_check_folds=3)
    seen, new = range(300), range(300, 600)
    train = [number for number in (*seen, *new) if slice_of(f"review-{number}", SHARES) == "train"]
    fresh = [number for number in train if number in new]
    reviews = [review(number, NAMES[number % 2]) for number in (*seen, *new)]
    reviews += [
        review(1000 + number, NAMES[number % 2], f"TEXT  {other}", review_id=f"review-{number}")
        for number, other in zip(fresh[::2], fresh[1::2], strict=False)
    ]  # edited to what another one says
    reviews += [
        review(2000 + number, NAMES[number % 2], f"Text {new}", review_id=f"review-{number}")
        for number, new in zip(train, fresh[::7], strict=False)
    ]  # long known, and said again
    trained_on = frozenset([*seen, *range(2000, 3000)])
    frozen = freeze(reviews, NAMES, SHARES, lambda *_: 1.0, trained_on)
    _, (_, *parts) = _compared(frozen, settings)
    assert len(parts) == 3
    of_text = {row.review.text: row.review.review_id for row in frozen.rows}
    for part in parts:
        held, learned = part.splits.test.texts, part.splits.train.texts
        assert {words(text) for text in held}.isdisjoint(map(words, learned))
        assert {of_text[text] for text in held}.isdisjoint(of_text[text] for text in learned)


def test_new_rows_that_say_the_same_few_things_compare_nothing():
    reviews = [review(number, NAMES[number % 2], f"text {number % 2}") for number in range(2000)]
    held = [review(number, NAMES[number % 2]) for number in range(2000, 2300)]
    known = [one for one in reviews if slice_of(one.review_id, SHARES) == "train"]
    other = [one for one in held if slice_of(one.review_id, SHARES) != "train"]
    frozen = freeze([*known, *other], NAMES, SHARES, lambda *_: 1.0, frozenset())
    _, runs = _compared(frozen, _nightly(enough_validation_rows=1000, cross_check_folds=3))
    assert len(runs) == 1


def test_with_hardly_any_new_rows_the_validation_rows_decide_and_it_is_said_that_they_are_few():
    frozen = snapshot(300, frozenset(range(295)))
    fitted, runs = _compared(frozen, _nightly(enough_validation_rows=1000))
    assert fitted.chosen_by.endswith("validation rows (few: 1000 are enough)")
    assert len(runs) == 1


def test_each_kind_of_the_default_recipes_begins_with_what_serves_and_afresh():
    starts = [(one.kind, one.start) for one in DEFAULT_RECIPES]
    assert sorted(starts) == [
        (kind, start) for kind in ("head", "lora", "refit") for start in ("active", "base")
    ]
    assert len({one.name for one in DEFAULT_RECIPES}) == len(DEFAULT_RECIPES)
