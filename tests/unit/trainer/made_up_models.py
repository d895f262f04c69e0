"""Models of a simulated stream that need no base: heads on made-up columns, or any function of rows."""

import numpy as np

from classifier.calibration import from_probabilities, softmax
from trainer.fitting.fit_data import SplitPredictions
from trainer.fitting.head import fit_head
from trainer.nightly.cross_checks import Checked, RecipeChecks, held_out_by_folds
from trainer.settings import NightlySettings
from trainer.simulation.loop import Fits

ANY_NUMBER = NightlySettings(min_train_rows=1, min_class_rows=1, min_validation_rows=1, validation_share=0.3)
"""A run that waits for nothing."""


class MadeUp:
    """Scores rows by a function, and texts ``row NUMBER`` as these rows."""

    def __init__(self, labels, said):
        self.labels, self._said = labels, said

    def __call__(self, rows):
        return self._said(rows)

    def predict(self, texts):
        said = self(np.array([int(text.split()[-1]) for text in texts], np.int64))
        cut = np.zeros(len(texts), bool)
        return from_probabilities(said, task="x", labels=self.labels, truncated=cut, adapter_version="v")


class HeadNights:
    """Fits a head a night on the training rows, with two folds as checks."""

    def __init__(self, columns, labels):
        self.columns, self.labels = columns, labels

    def __call__(self, snapshot, active, seed):
        rows = snapshot.of("train")
        folds = [rows[fold::2] for fold in range(2)]
        checked = []
        for fold in folds:
            others = [row for row in rows if row not in fold]
            positions = np.array([row.review.record for row in fold])
            truth = np.array([row.label for row in fold])
            checked.append(Checked(fold, SplitPredictions(self.head(others)(positions), truth)))
        none = SplitPredictions(np.empty((0, len(self.labels))), np.empty(0, np.int64))
        checks = held_out_by_folds([RecipeChecks(none, tuple(checked))], len(self.labels))
        return Fits(MadeUp(self.labels, self.head(rows)), "made-up", checks)

    def head(self, rows):
        positions = np.array([row.review.record for row in rows])
        labels = np.array([row.label for row in rows])
        head = fit_head(self.columns[positions], labels, len(self.labels))
        return lambda asked: softmax(head.logits(self.columns[asked]))
