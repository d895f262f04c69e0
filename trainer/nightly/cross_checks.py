"""Cross-checks: what each recipe predicts for labelled rows that its fit did not see. Pure.

With few labels, these rows are most of what there is to compare by. They serve twice, and must not favour
anybody: recipes are compared by them, and the gate sees them as evidence beside the test and audit rows.

On a few rows the best of several recipes is often so by chance. So the first is chosen, the most promising,
that is not worse than the best by more than the standard error of their difference. It is the rule of one
standard error of Breiman, Friedman, Olshen, Stone: Classification and Regression Trees (1984), chapter 3.4,
with the error of the difference instead of that of the best alone, since all predict the same rows.

A chosen recipe is not as good as it looks on the rows that chose it, so the gate is shown, for each fold,
what that recipe predicts which is chosen by all other rows: Varma, Simon: Bias in error estimation when using
cross-validation for model selection (BMC Bioinformatics 7, 2006). Why the mean over folds is what a test may
be made of: Bayle, Bayle, Janson, Mackey: Cross-validation Confidence Intervals for Test Error (NeurIPS 2020).
ADR 0185.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from classifier.calibration import Floats
from trainer.fitting.fit_data import SplitPredictions
from trainer.metrics import evaluate, standard_error_of_difference
from trainer.nightly.snapshot import Row


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """What a recipe says of rows that the fit did not see.

    Attributes:
        rows: The rows.
        predictions: For these.
    """

    rows: tuple[Row, ...]
    predictions: SplitPredictions


@dataclass(frozen=True, slots=True, eq=False)
class RecipeChecks:
    """What one recipe says of validation rows, and of the folds of a cross-check.

    Attributes:
        validation: Of the candidate itself, or, where it was trained on them, of fits without them.
        folds: Each fitted without it; none where there are validation rows enough.
    """

    validation: SplitPredictions
    folds: tuple[Checked, ...] = ()

    def predictions(self, without: int | None = None) -> SplitPredictions:
        """Of all folds, or of all but one; of validation rows where there are no folds."""
        parts = [fold.predictions for place, fold in enumerate(self.folds) if place != without]
        if not parts:
            return self.validation
        return SplitPredictions(
            np.concatenate([part.probabilities for part in parts]),
            np.concatenate([part.truth for part in parts]),
        )

    def score(self) -> float:
        """Macro-F1 on these rows."""
        return _macro_f1(self.predictions())


@dataclass(frozen=True, slots=True, eq=False)
class HeldOutByFolds:
    """What the procedure of choosing and fitting says of the rows of all folds.

    Attributes:
        rows: New training and validation rows: the active adapter never saw them.
        said: float64 (rows, labels), probabilities: of each fold, those of the recipe that is chosen
            without it.
    """

    rows: tuple[Row, ...]
    said: Floats


def choose_recipe(recipes: Sequence[RecipeChecks], without: int | None = None) -> int:
    """The place of the first recipe that is not worse than the best by more than a standard error.

    Args:
        recipes: One at least, the most promising first; all predict the same rows.
        without: A fold that has no say; None: all have.
    """
    said = [recipe.predictions(without) for recipe in recipes]
    scores = [_macro_f1(one) for one in said]
    best = int(np.argmax(scores))
    return next(
        place for place, one in enumerate(said) if scores[best] - scores[place] <= _chance(one, said[best])
    )


def _chance(one: SplitPredictions, best: SplitPredictions) -> float:
    """The standard error of the difference in macro-F1 of two recipes."""
    return standard_error_of_difference(
        one.probabilities.argmax(axis=1), best.probabilities.argmax(axis=1), best.truth
    )


def held_out_by_folds(recipes: Sequence[RecipeChecks], labels: int) -> HeldOutByFolds:
    """The rows of all folds as evidence; none where recipes were not cross-checked.

    Args:
        recipes: All that take part, with the same folds.
        labels: How many there are.
    """
    if not recipes or not all(recipe.folds for recipe in recipes):
        return HeldOutByFolds((), np.empty((0, labels)))
    rows, said = list[Row](), list[Floats]()
    for place, fold in enumerate(recipes[0].folds):
        chosen = recipes[choose_recipe(recipes, without=place)]
        rows += fold.rows
        said.append(chosen.folds[place].predictions.probabilities)
    return HeldOutByFolds(tuple(rows), np.concatenate(said))


def _macro_f1(predictions: SplitPredictions) -> float:
    return evaluate(predictions.probabilities, predictions.truth)["macro_f1"]
