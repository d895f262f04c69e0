"""Which rows recipes are fitted on, and by which they are compared and calibrated."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from classifier.settings import ClassifierSettings
from reviews.slices import slice_of
from tests.unit.trainer.nightly.rows import ACTIVE, NAMES, SHARES, nightly, review, snapshot
from trainer.data.near_duplicates import words
from trainer.fitting.fit_data import SplitPredictions
from trainer.nightly.candidates import (
    CandidateFitter,
    plan_fits,
)
from trainer.nightly.snapshot import freeze
from trainer.settings import NightlySettings, RecipeSettings


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
            _, (run, *_) = _compared(frozen, nightly(enough_validation_rows=enough), name)
            wanted = [row.review.text for row in frozen.of("validation")] if texts is None else texts
            assert list(run.splits.validation.texts) == wanted


def test_no_head_is_calibrated_on_what_models_answered():
    reviews = [review(number, NAMES[number % 2], by_models=number % 4 > 1) for number in range(400)]
    settings = NightlySettings()
    frozen = freeze(reviews, NAMES, settings.shares, lambda *_: 1.0, frozenset(range(100)))
    _, (run, *_) = _compared(frozen, nightly(enough_validation_rows=1000), "head-active")
    learned = [*frozen.of("train"), *frozen.of("validation")]
    assert any(row.is_new and row.review.by_models for row in learned)
    assert run.is_new == tuple(row.is_new and not row.review.by_models for row in learned)


def test_a_recipe_shares_its_time_with_its_cross_checks_without_which_nothing_is_evidence_for_the_gate():
    frozen = snapshot(300, frozenset(range(150)))
    fits, ticks = Fits(), iter(range(0, 1000, 30))
    plans, _ = plan_fits(frozen, nightly(enough_validation_rows=1000, cross_check_folds=3), ACTIVE, seed=0)
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
    fitted, runs = _compared(snapshot(1000, frozenset(some)), nightly(enough_validation_rows=len(some) + 9))
    assert "cross-checks" in fitted.chosen_by
    assert len(runs) == 1 + 3


def test_with_enough_validation_rows_these_alone_compare_recipes():
    frozen = snapshot(1000)
    fitted, runs = _compared(frozen, nightly(enough_validation_rows=60))
    validation = len(frozen.of("validation"))
    assert fitted.chosen_by == f"{validation} validation rows"
    assert len(runs) == 1
    assert runs[0].splits.train.weights is not None
    assert fitted.score == pytest.approx(1 / 3, abs=0.03), "macro-F1 of always saying yes"


@pytest.mark.parametrize("name", ["base-all", "warm-new-slow", "head-base"])
def test_with_few_validation_rows_new_rows_are_held_out_in_turns_and_never_trained_on_then(name):
    frozen = snapshot(300, frozenset(range(150)))
    fitted, runs = _compared(frozen, nightly(enough_validation_rows=1000, cross_check_folds=3), name)
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
    settings = nightly(enough_validation_rows=1000)
    _, (whole, part, *_) = _compared(frozen, settings, "head-active")
    new = {row.review.text for row in frozen.rows if row.is_new}
    for run in (whole, part):
        texts = run.splits.train.texts + run.splits.validation.texts
        assert run.is_new == tuple(text in new for text in texts)
        assert set(run.is_new) == {True, False}
    for name in ("head-base", "warm-all-slow"):
        assert _compared(frozen, settings, name)[1][0].is_new is None, "they continue from no head"


def test_with_few_validation_rows_heads_train_on_them_and_lora_does_not():
    frozen = snapshot(300)
    train, validation = (len(frozen.of(slice_)) for slice_ in ("train", "validation"))
    for enough, name, learns in (
        (1000, "head-base", True),
        (1000, "base-all", False),
        (20, "head-base", False),
    ):
        _, (whole, *parts) = _compared(frozen, nightly(enough_validation_rows=enough), name)
        assert {one.learns_validation for one in (whole, *parts)} == {learns}
        assert len(whole.speaks_for) == train + (validation if learns else 0)
        assert (whole.splits.validation.weights is not None) == learns


def test_what_a_fold_says_is_not_trained_on_in_another_copy_or_another_version_of_its_review():
    settings = nightly(enough_validation_rows=1000, cross_check_folds=3)
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
    _, runs = _compared(frozen, nightly(enough_validation_rows=1000, cross_check_folds=3))
    assert len(runs) == 1


def test_with_hardly_any_new_rows_the_validation_rows_decide_and_it_is_said_that_they_are_few():
    frozen = snapshot(300, frozenset(range(295)))
    fitted, runs = _compared(frozen, nightly(enough_validation_rows=1000))
    assert fitted.chosen_by.endswith("validation rows (few: 1000 are enough)")
    assert len(runs) == 1


def test_a_refit_takes_the_steps_of_lora_and_its_head_trains_on_few_validation_rows():
    recipe = RecipeSettings(name="again", kind="refit", start="base", learning_rate=1e-3)
    frozen, settings = snapshot(300), nightly(recipes=(recipe,), enough_validation_rows=1000)
    (plan,), _ = plan_fits(frozen, settings, None, seed=0)
    assert plan.steps == replace(plan, kind="lora").steps > 0
    _, (whole, *_) = _compared(frozen, settings, "again")
    assert (whole.kind, whole.learns_validation) == ("refit", True)


def test_a_cross_check_of_a_head_makes_no_files_and_its_candidate_does():
    frozen = snapshot(300)
    _, runs = _compared(frozen, nightly(enough_validation_rows=1000), name="head-base")
    assert [(run.kind, run.is_check) for run in runs] == [("head", False)] + [("head", True)] * 3
