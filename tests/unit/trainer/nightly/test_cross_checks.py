"""What folds of cross-checks say: to choose a recipe by, and as evidence for the gate."""

import numpy as np

from tests.unit.trainer.nightly.rows import NAMES, snapshot
from trainer.fitting.fit_data import SplitPredictions
from trainer.gate.evidence import Evidence
from trainer.nightly.cross_checks import Checked, RecipeChecks, choose_recipe, held_out_by_folds
from trainer.nightly.held_out import gather

TRUTH = np.array([0, 1, 0, 1])
NONE = SplitPredictions(np.empty((0, 2)), np.empty(0, np.int64))


def said(labels):
    return SplitPredictions(np.eye(2)[labels], TRUTH)


def checks(*folds, rows=("a", "b", "c", "d")):
    """A recipe that says these labels of each fold; a name stands for the rows."""
    parts = [Checked((name,), said(labels)) for name, labels in zip(rows, folds, strict=False)]
    return RecipeChecks(NONE, tuple(parts))


RIGHT, WRONG = TRUTH, 1 - TRUTH


def test_of_each_fold_the_gate_sees_the_recipe_that_is_best_on_the_others():
    lucky = checks(RIGHT, WRONG, WRONG, WRONG)
    steady = checks(WRONG, RIGHT, RIGHT, RIGHT)
    found = held_out_by_folds([lucky, steady], 2)
    assert found.rows == ("a", "b", "c", "d")
    first, *others = np.split(found.said.argmax(axis=1), 4)
    np.testing.assert_array_equal(first, WRONG, "where the lucky one is right, it is not chosen for that")
    np.testing.assert_array_equal(others, [RIGHT] * 3)


def recipe(right, folds=4, seed=0):
    """A recipe that is right on this share of 50 rows of each fold, on other rows with another seed."""
    random, parts = np.random.default_rng(seed), []
    for place in range(folds):
        truth = np.tile([0, 1], 25)
        wrong = random.permutation(50) >= round(50 * right)
        parts.append(Checked((place,), SplitPredictions(np.eye(2)[truth ^ wrong], truth)))
    return RecipeChecks(NONE, tuple(parts))


def test_the_most_promising_recipe_is_chosen_unless_another_is_better_by_more_than_a_standard_error():
    promising = recipe(0.80)
    assert choose_recipe([promising, recipe(0.82, seed=1)]) == 0, "2 points of 200 rows say nothing"
    assert choose_recipe([promising, recipe(0.92, seed=1)]) == 1
    assert choose_recipe([recipe(0.82), recipe(0.80, seed=1)]) == 0
    assert choose_recipe([recipe(0.5), recipe(0.90, seed=1), recipe(0.92, seed=2)]) == 1, "near the best"
    better_everywhere = recipe(0.82)
    assert choose_recipe([promising, better_everywhere]) == 1, "on the same rows but some: that is no chance"
    assert choose_recipe([promising, promising]) == 0
    assert choose_recipe([RecipeChecks(said(WRONG)), RecipeChecks(said(RIGHT))]) == 1, "without folds"


def test_what_the_gate_sees_of_a_fold_is_chosen_by_the_same_rule_on_the_others():
    promising, lucky = recipe(0.80), recipe(0.82, seed=1)
    assert lucky.score() > promising.score()
    shown = held_out_by_folds([promising, lucky], 2)
    np.testing.assert_array_equal(shown.said, held_out_by_folds([promising], 2).said)


def test_of_one_recipe_the_gate_sees_all_it_said_and_nothing_where_another_was_not_checked():
    found = held_out_by_folds([checks(RIGHT, WRONG)], 2)
    np.testing.assert_array_equal(found.said.argmax(axis=1), np.concatenate([RIGHT, WRONG]))
    empty = held_out_by_folds([checks(RIGHT, WRONG), RecipeChecks(said(RIGHT))], 2)
    assert (empty.rows, empty.said.shape) == ((), (0, 2))


def test_folds_alone_compare_recipes_where_there_are_folds_as_they_hold_the_validation_rows():
    by_heart = RecipeChecks(said(RIGHT), (Checked(("a",), said(WRONG)),))
    assert by_heart.score() == 0.0
    assert RecipeChecks(said(RIGHT)).score() == 1.0


def test_rows_of_folds_stand_behind_those_that_nobody_was_trained_on():
    frozen = snapshot(200)
    rows = frozen.of("train")[:4]
    found = held_out_by_folds([checks(RIGHT, rows=(rows,))], 2)
    evidence = gather(frozen, None, _Always(), type(found)(rows, found.said))
    alone = gather(frozen, None, _Always())
    assert isinstance(evidence, Evidence)
    assert len(evidence.truth) == len(alone.truth) + 4
    np.testing.assert_array_equal(evidence.truth[-4:], [row.label for row in rows])
    np.testing.assert_array_equal(evidence.candidate[-4:], np.eye(2)[RIGHT])
    assert not evidence.is_audit[-4:].any()


class _Always:
    """Says the first label of every text."""

    labels = NAMES

    def predict(self, texts):
        from classifier.calibration import from_probabilities

        probabilities = np.tile([0.9, 0.1], (len(texts), 1))
        cut = np.zeros(len(texts), bool)
        return from_probabilities(probabilities, task="x", labels=NAMES, truncated=cut, adapter_version="v")
