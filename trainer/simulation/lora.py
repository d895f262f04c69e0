"""The real fit: an adapter by the project's own trainer, gone on from what serves; none is fitted twice."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from classifier.adapters.manifest import MANIFEST, read_manifest
from classifier.calibration import Floats
from reviews.errors import WrongUse
from trainer.dataset import Dataset
from trainer.settings import TrainerSettings
from trainer.simulation.features import features_of
from trainer.simulation.stream import Indices
from trainer.splitting import stratified_split
from trainer.train import Run, Splits, train

if TYPE_CHECKING:
    from classifier.settings import ClassifierSettings
    from trainer.fit import Progress
    from trainer.simulation.night import Model

_VALIDATION_SHARE = 0.15


class AdapterModel:
    """An adapter that scores rows of the stream; what it has said is kept in the cache.

    Args:
        directory: The adapter.
        texts: Of all rows of the stream.
        settings: Base, device and precision.
        cache: Directory of the cache.
    """

    def __init__(
        self, directory: Path, texts: Sequence[str], settings: "ClassifierSettings", cache: Path
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
        self, rows: Dataset, classifier: "ClassifierSettings", recipe: TrainerSettings, cache: Path
    ) -> None:
        self._rows = rows
        self._classifier = classifier
        self._recipe = recipe
        self._cache = cache

    def __call__(self, rows: Indices, labels: Indices, active: "Model | None", seed: int) -> AdapterModel:
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


def _silent(_: "Progress") -> None:
    """Hundreds of fits tell nobody of their steps."""
