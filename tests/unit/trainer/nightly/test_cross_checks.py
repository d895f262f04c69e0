"""What folds of cross-checks say: to choose a recipe by, and as evidence for the gate."""

import numpy as np

from tests.unit.trainer.nightly.rows import NAMES, snapshot
from trainer.fitting.fit_data import SplitPredictions
from trainer.gate.evidence import Evidence
from trainer.nightly.cross_checks import Checked, RecipeChecks, held_out_by_folds
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


def test_of_one_recipe_the_gate_sees_all_it_said_and_nothing_where_another_was_not_checked():
    found = held_out_by_folds([checks(RIGHT, WRONG)], 2)
    np.testing.assert_array_equal(found.said.argmax(axis=1), np.concatenate([RIGHT, WRONG]))
    empty = held_out_by_folds([checks(RIGHT, WRONG), RecipeChecks(said(RIGHT))], 2)
    assert (empty.rows, empty.said.shape) == ((), (0, 2))


def test_folds_alone_compare_recipes_where_there_are_folds_as_they_hold_the_validation_rows():
    by_heart = RecipeChecks(said(RIGHT), (Checked(("a",), said(WRONG)),))
    assert (by_heart.score(), by_heart.validation_score) == (0.0, 1.0)
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
