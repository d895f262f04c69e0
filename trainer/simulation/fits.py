"""How candidates are fitted: as a linear head on frozen features, in no time, or as adapters by the trainer.

A head is a multinomial logistic regression; each class counts as much as another, however few rows it has.
Adapters are kept in the cache under all that they follow from, so none is fitted twice.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from classifier.adapters.manifest import MANIFEST, read_manifest
from classifier.calibration import Floats
from classifier.settings import ClassifierSettings
from reviews.errors import WrongUse
from trainer.data.dataset import Dataset
from trainer.data.splitting import stratified_split
from trainer.fitting.fit import train
from trainer.fitting.run import Progress, Report, Run, Splits
from trainer.settings import TrainerSettings
from trainer.simulation.experiment import Start
from trainer.simulation.features import Features, features_of
from trainer.simulation.loop import Model
from trainer.simulation.stream import Indices

Score = Callable[[Indices], Floats]
"""Rows → float64 (rows, labels): probabilities, rows sum to 1."""
STRENGTH = 0.003  # inverse to the penalty; columns are standardised
_UNSEEN = 1e-6
_VALIDATION_SHARE = 0.15


class HeadFit:
    """Fits heads on the same frozen features."""

    def __init__(self, features: Features, classes: int) -> None:
        columns = features.columns.astype(np.float64)
        spread = columns.std(axis=0)
        self._columns = (columns - columns.mean(axis=0)) / np.where(spread > 0, spread, 1)
        self._classes = classes

    def __call__(self, rows: Indices, labels: Indices) -> Score:
        """The head fitted on these rows; a class without a row is all but impossible.

        Args:
            rows: int64 (labelled).
            labels: int64 (labelled), what the annotator said.
        """
        known = np.unique(labels)
        if len(known) < 2:
            return _constant(np.where(np.arange(self._classes) == known[0], 1.0, 0.0))
        weights, bias = self._solve(rows, labels)
        columns = self._columns

        def score(asked: Indices) -> Floats:
            logits = columns[asked] @ weights + bias
            powers = np.exp(logits - logits.max(axis=1, keepdims=True))
            said = np.full((len(asked), self._classes), _UNSEEN)
            said[:, known] = powers / powers.sum(axis=1, keepdims=True)
            return np.asarray(said / said.sum(axis=1, keepdims=True))

        return score

    def _solve(self, rows: Indices, labels: Indices) -> tuple[npt.NDArray[np.float64], Floats]:
        """Weights (columns, known labels) and bias (known labels)."""
        from sklearn.linear_model import LogisticRegression

        fitted = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=500, tol=1e-3)
        fitted.fit(self._columns[rows], labels)
        weights, bias = fitted.coef_.T, fitted.intercept_
        if weights.shape[1] == 1:  # two classes: one column that tells them apart
            return np.hstack([np.zeros_like(weights), weights]), np.array([0.0, bias[0]])
        return weights, bias


def _constant(said: Floats) -> Score:
    return lambda asked: np.tile(said, (len(asked), 1))


class AdapterModel:
    """An adapter that scores rows of the stream; what it has said is kept in the cache."""

    def __init__(
        self, directory: Path, texts: Sequence[str], settings: ClassifierSettings, cache: Path
    ) -> None:
        self.directory = directory
        self._texts = texts
        self._settings = settings
        self._cache = cache

    def __call__(self, rows: Indices) -> Floats:
        """float64 (rows, labels): calibrated probabilities, rows sum to 1."""
        asked = [self._texts[row] for row in rows]
        said = features_of(asked, self.directory, self._settings, self._cache).probabilities
        if said is None:
            raise WrongUse(f"{self.directory} answers nothing: name an adapter.")
        return said


class LoraFit:
    """Fits adapters on labelled rows of the stream.

    A part of the labels is validation: it chooses the epoch and fits the temperature.

    Args:
        rows: All rows; their labels are not looked at.
        classifier: Base, task and device.
        recipe: How each night is fitted; its seed is replaced.
        cache: Where adapters are kept, under a name that follows from all that they are made of.
    """

    def __init__(
        self, rows: Dataset, classifier: ClassifierSettings, recipe: TrainerSettings, cache: Path
    ) -> None:
        self._rows = rows
        self._classifier = classifier
        self._recipe = recipe
        self._cache = cache

    def __call__(self, rows: Indices, labels: Indices, active: Model | None, seed: int) -> AdapterModel:
        """The candidate, gone on from the active adapter; from the base where none serves.

        Args:
            rows: int64 (labelled).
            labels: int64 (labelled), what the annotator said.
            active: What serves.
            seed: Of the split, initialisation and order.

        Raises:
            TrainingStopped: If the fitting diverges.
        """
        start = active.directory if isinstance(active, AdapterModel) else None
        recipe = self._recipe.model_copy(update={"seed": seed})
        root = self._cache / f"fit-{self._key(rows, labels, start, recipe)}"
        made = sorted(file.parent for file in root.glob(f"*/{MANIFEST}"))
        if not made:
            splits = self._splits(rows, labels, seed)
            run = Run(splits, self._classifier, recipe, note="Made by a simulation.", start=start)
            made = [train(run, root, _silent).directory]
        return AdapterModel(made[0], self._rows.texts, self._classifier, self._cache)

    def _key(self, rows: Indices, labels: Indices, start: Path | None, recipe: TrainerSettings) -> str:
        parent = read_manifest(start).content_hash if start else self._classifier.base_model
        parts = [self._rows.sha256, rows.tolist(), labels.tolist(), parent, recipe.recipe()]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]

    def _splits(self, rows: Indices, labels: Indices, seed: int) -> Splits:
        shares = (1 - _VALIDATION_SHARE, _VALIDATION_SHARE)
        part = np.array(stratified_split(labels.tolist(), range(len(labels)), seed, shares))
        return Splits(*(self._taken(rows[part == wanted], labels[part == wanted]) for wanted in (0, 1)))

    def _taken(self, rows: Indices, labels: Indices) -> Dataset:
        texts = tuple(self._rows.texts[row] for row in rows)
        return Dataset(texts, tuple(labels.tolist()), self._rows.names, self._rows.sha256)


def trained_start(
    rows: Dataset, start: Start, classifier: ClassifierSettings, cache: Path, report: Report
) -> Path:
    """Directory of an adapter fitted on a share of the rows; fitted only where it is not there yet.

    Args:
        rows: Labelled texts of the domain that it is to know.
        start: The share of them that is trained on, 15 % of it being validation instead, and the recipe.
        classifier: Base model and task.
        cache: Where it is kept, under a name that follows from all of the above.
        report: Told of every step.

    Raises:
        ModelError: If the base cannot be had.
        AdapterError: If it cannot be written.
    """
    share, recipe = start.share, start.recipe
    what = [rows.sha256, rows.names, share, classifier.base_model, classifier.task]
    key = hashlib.sha256(json.dumps([*what, recipe.recipe()], sort_keys=True).encode())
    root = cache / f"start-{key.hexdigest()[:16]}"
    made = sorted(file.parent for file in root.glob(f"*/{MANIFEST}"))
    return made[0] if made else train(_run(rows, share, classifier, recipe), root, report).directory


def _run(rows: Dataset, share: float, classifier: ClassifierSettings, recipe: TrainerSettings) -> Run:
    shares = [share * (1 - _VALIDATION_SHARE), share * _VALIDATION_SHARE, max(1e-9, 1 - share)]
    split = stratified_split(rows.labels, range(len(rows)), recipe.seed, shares)
    train_rows, validation = (
        part_of(rows, [row for row, part in enumerate(split) if part == wanted]) for wanted in (0, 1)
    )
    return Run(Splits(train_rows, validation), classifier, recipe, note=f"Made on {share:.0%} of a stream.")


def part_of(rows: Dataset, positions: list[int]) -> Dataset:
    """These rows of a data set, in this order."""
    return Dataset(
        tuple(rows.texts[position] for position in positions),
        tuple(rows.labels[position] for position in positions),
        rows.names,
        rows.sha256,
    )


def _silent(_: Progress) -> None:
    """Hundreds of fits tell nobody of their steps."""
