"""How recipes are compared: on validation rows, and with cross-checks where there are too few of these.

Rows that a recipe is scored on are neither trained on nor do they choose its epoch. A cross-check holds out
training rows, in turns, that the active adapter never saw: on others, whoever goes on from it would seem
better than it is. Every recipe is scored on the same rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from trainer.metrics import evaluate
from trainer.nightly.fitting import Fitted
from trainer.nightly.recipes import Plan
from trainer.nightly.snapshot import Row, Snapshot, dataset
from trainer.splitting import stratified_split
from trainer.train import Run, Splits

if TYPE_CHECKING:
    from classifier.settings import ClassifierSettings
    from trainer.finish import Answers
    from trainer.train import Outcome

FitRun = Callable[[Run], "Outcome"]


class Comparison:
    """Fits plans and scores them, all on the same rows.

    Args:
        snapshot: The frozen rows.
        classifier: Base model, task, device.
        fit_run: Fits a run.
        seed: Of the folds.
    """

    def __init__(
        self, snapshot: Snapshot, classifier: "ClassifierSettings", fit_run: FitRun, seed: int
    ) -> None:
        self._snapshot = snapshot
        self._classifier = classifier
        self._fit_run = fit_run
        self._seed = seed

    def __call__(self, plan: Plan) -> Fitted:
        """The candidate of a plan, with its score."""
        outcome = self._fit_run(self._run(plan, plan.rows))
        answers = [outcome.measured.answers["validation"]]
        rows, settings = len(answers[0].truth), plan.settings.nightly
        chosen_by = f"{rows} validation rows"
        if rows < settings.enough_validation_rows:
            folds = self._folds(settings.cross_check_folds)
            chosen_by += f" (few: {settings.enough_validation_rows} are enough)"
            if folds:
                answers += [self._held_out(plan, fold) for fold in folds]
                chosen_by += f" and {sum(map(len, folds))} training rows in {len(folds)} cross-checks"
        return Fitted(plan, outcome, _macro_f1(answers), chosen_by)

    def _folds(self, count: int) -> list[tuple[Row, ...]]:
        """The new training rows in parts, groups together; none where they say too little to learn from."""
        new = [row for row in self._snapshot.of("train") if row.is_new]
        groups = [row.group for row in new]
        if len(set(groups)) < 2 * count * len(self._snapshot.names):
            return []
        parts = stratified_split([row.label for row in new], groups, self._seed, [1 / count] * count)
        folds = [
            tuple(row for row, part in zip(new, parts, strict=True) if part == fold) for fold in range(count)
        ]
        return [fold for fold in folds if fold]

    def _held_out(self, plan: Plan, fold: Sequence[Row]) -> "Answers":
        """What the recipe says of these rows, fitted without them, near-duplicates and other versions."""
        groups, reviews = {row.group for row in fold}, {row.review.review_id for row in fold}
        rows = tuple(
            row for row in plan.rows if row.group not in groups and row.review.review_id not in reviews
        )
        run = self._run(plan, rows)
        test = dataset(fold, self._snapshot.names)
        return self._fit_run(replace(run, splits=replace(run.splits, test=test))).measured.answers["test"]

    def _run(self, plan: Plan, rows: Sequence[Row]) -> Run:
        names = self._snapshot.names
        validation = dataset(self._snapshot.of("validation"), names)
        return Run(
            Splits(dataset(rows, names, weighted=True), validation),
            self._classifier,
            plan.settings,
            note=f"Made by a nightly run, recipe {plan.name}.",
            start=plan.start,
        )


def _macro_f1(answers: "Sequence[Answers]") -> float:
    probabilities = np.concatenate([said.probabilities for said in answers])
    return evaluate(probabilities, np.concatenate([said.truth for said in answers]))["macro_f1"]
