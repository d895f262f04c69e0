"""Cross-checks: what each recipe predicts for labelled rows that its fit did not see. Pure.

With few labels, these rows are most of what there is to compare by. They serve twice, and must not favour
anybody: recipes are compared by them, and the gate sees them as evidence beside the test and audit rows. The
best of several recipes on some rows is not as good as it looks on these rows, so the gate is shown, for each
fold, what that recipe predicts which is the best on all other rows: Varma, Simon: Bias in error estimation
when using cross-validation for model selection (BMC Bioinformatics 7, 2006). Why the mean over folds is what
a test may be made of: Bayle, Bayle, Janson, Mackey: Cross-validation Confidence Intervals for Test Error
(NeurIPS 2020). ADR 0185.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from classifier.calibration import Floats
from trainer.fitting.fit_data import SplitPredictions
from trainer.metrics import evaluate
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

    def score(self, without: int | None = None) -> float:
        """Macro-F1 on all folds, or on all but one; on validation rows where there are no folds."""
        parts = [fold.predictions for place, fold in enumerate(self.folds) if place != without]
        return _macro_f1(parts) if parts else self.validation_score

    @property
    def validation_score(self) -> float:
        """Macro-F1 on the validation rows alone."""
        return _macro_f1([self.validation])


@dataclass(frozen=True, slots=True, eq=False)
class HeldOutByFolds:
    """What the procedure of choosing and fitting says of the rows of all folds.

    Attributes:
        rows: New training and validation rows: the active adapter never saw them.
        said: float64 (rows, labels), probabilities: of each fold, those of the recipe that is the best
            without it.
    """

    rows: tuple[Row, ...]
    said: Floats


def held_out_by_folds(recipes: Sequence[RecipeChecks], labels: int) -> HeldOutByFolds:
    """The rows of all folds as evidence; none where not all recipes were cross-checked.

    Args:
        recipes: All that were fitted, with the same folds. Where there was no time for the folds of one, it
            may be chosen without them, and then they say nothing of what is chosen.
        labels: How many there are.
    """
    if not recipes or not all(recipe.folds for recipe in recipes):
        return HeldOutByFolds((), np.empty((0, labels)))
    rows, said = list[Row](), list[Floats]()
    for place, fold in enumerate(recipes[0].folds):
        chosen = max(recipes, key=lambda recipe: recipe.score(without=place))
        rows += fold.rows
        said.append(chosen.folds[place].predictions.probabilities)
    return HeldOutByFolds(tuple(rows), np.concatenate(said))


def _macro_f1(predictions: Sequence[SplitPredictions]) -> float:
    probabilities = np.concatenate([split.probabilities for split in predictions])
    return evaluate(probabilities, np.concatenate([split.truth for split in predictions]))["macro_f1"]
