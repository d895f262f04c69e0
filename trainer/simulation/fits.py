"""How candidates are fitted: as a linear head on frozen features, quickly, or as adapters by the trainer.

A head is a multinomial logistic regression; each class counts as much as another, however few rows it has.
Adapters are kept in the cache under all that they follow from, so none is fitted twice.
"""

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from classifier.adapters.manifest import MANIFEST, read_manifest
from classifier.base_model import locate
from classifier.calibration import Floats
from classifier.interface import load
from classifier.settings import ClassifierSettings
from reviews.errors import WrongUse
from trainer.data.dataset import Dataset
from trainer.data.splitting import stratified_split
from trainer.fitting.features import FrozenFeatures
from trainer.fitting.fit import train
from trainer.fitting.fit_data import FitRequest, Report, Splits
from trainer.fitting.outputs import write_whole
from trainer.settings import TrainerSettings
from trainer.simulation.experiment import Start
from trainer.simulation.loop import Model
from trainer.simulation.stream import Indices

_TEXTS_AT_ONCE = 500
_BASE_TOKENS = 256
_LEAST = 1e-6
Floats32 = npt.NDArray[np.float32]
Said = tuple[Floats32, Floats32]  # embeddings (texts, hidden), probabilities (texts, labels or 0)
Answer = Callable[[Sequence[str]], Said]
STRENGTH = 0.003  # inverse to the penalty; columns are standardised
_UNSEEN = 1e-6
_VALIDATION_SHARE = 0.15


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """What a frozen model says about some texts.

    Attributes:
        embeddings: float32 (rows, hidden).
        said: float32 (rows, labels): calibrated probabilities, rows sum to 1; of a base without an adapter,
            (rows, 0).
    """

    embeddings: Floats32
    said: Floats32

    @property
    def probabilities(self) -> Floats | None:
        """float64 (rows, labels), rows sum to 1; None of a base without an adapter."""
        return self.said.astype(np.float64) if self.said.shape[1] else None

    @property
    def columns(self) -> Floats32:
        """float32 (rows, hidden + labels): embeddings, and logits up to a number that is a row's own."""
        return np.hstack([self.embeddings, np.log(np.maximum(self.said, _LEAST))])


def features_of(
    texts: Sequence[str], adapter: Path | None, settings: ClassifierSettings, cache: Path
) -> Features:
    """What the adapter says, or its base where there is none; from the cache where it was asked before.

    Args:
        texts: In the order of the rows.
        adapter: Its directory; None for the base alone, whose embedding is the mean over tokens.
        settings: Base, device and precision.
        cache: Directory of the cache; made if need be.

    Raises:
        ModelError: If the base cannot be had.
        AdapterError: If the adapter is damaged or belongs to another base.
    """
    base = locate(settings.base_model, settings.base_revision)
    manifest = None if adapter is None else read_manifest(adapter, settings.task)
    model = [base.weights_sha256, manifest.content_hash if manifest else "base", settings.precision]
    answer = _Lazily(adapter, settings)
    parts = [
        _kept(cache, model, texts[start : start + _TEXTS_AT_ONCE], answer)
        for start in range(0, len(texts), _TEXTS_AT_ONCE)
    ]
    embeddings, said = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Features(embeddings, said)


def _kept(cache: Path, model: list[str], texts: Sequence[str], answer: Answer) -> Said:
    """The predictions for these texts, from their file or into it."""
    key = hashlib.sha256("\0".join([*model, *texts]).encode("utf-8", "surrogatepass")).hexdigest()
    file = cache / f"{key[:32]}.npz"
    if not file.is_file():
        embeddings, said = answer(texts)
        content = io.BytesIO()
        np.savez(content, embeddings=embeddings, said=said)
        write_whole(file, content.getvalue())
    with np.load(file, allow_pickle=False) as found:
        return found["embeddings"], found["said"]


class _Lazily:
    """Loads the model when the first text is not in the cache."""

    def __init__(self, adapter: Path | None, settings: ClassifierSettings) -> None:
        self._adapter = adapter
        self._settings = settings
        self._answer: Answer | None = None

    def __call__(self, texts: Sequence[str]) -> Said:
        self._answer = self._answer or self._load()
        return self._answer(texts)

    def _load(self) -> Answer:
        if self._adapter is None:
            base = locate(self._settings.base_model, self._settings.base_revision)
            embedder = FrozenFeatures(base, self._settings, _BASE_TOKENS)
            return lambda texts: (embedder(texts), np.empty((len(texts), 0), np.float32))
        classifier = load(self._settings.base_model, self._adapter, self._settings)

        def ask(texts: Sequence[str]) -> Said:
            predictions, embeddings = classifier.score_and_embed(classifier.encode(texts))
            return embeddings, np.array([one.probabilities for one in predictions], np.float32)

        return ask


class HeadFit:
    """Fits heads on the same frozen features."""

    def __init__(self, features: Features, classes: int) -> None:
        columns = features.columns.astype(np.float64)
        spread = columns.std(axis=0)
        self._columns = (columns - columns.mean(axis=0)) / np.where(spread > 0, spread, 1)
        self._classes = classes

    def __call__(self, rows: Indices, labels: Indices, _active: Model | None = None, _seed: int = 0) -> Model:
        """The head fitted on these rows; a class without a row is all but impossible.

        A head starts afresh each night: the active adapter's answers are in its columns already.

        Args:
            rows: int64 (labelled).
            labels: int64 (labelled), what the annotator said.
        """
        known = np.unique(labels)
        if len(known) < 2:
            only = np.where(np.arange(self._classes) == known[0], 1.0, 0.0)
            return lambda asked: np.tile(only, (len(asked), 1))
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
        """The candidate, continued from the active adapter; from the base if there is none.

        Args:
            rows: int64 (labelled).
            labels: int64 (labelled), what the annotator said.
            active: The active model.
            seed: Of the split, initialisation and order.

        Raises:
            TrainingStopped: If the fitting diverges.
        """
        start = active.directory if isinstance(active, AdapterModel) else None
        recipe = self._recipe.model_copy(update={"seed": seed})
        root = self._cache / f"fit-{self._key(rows, labels, start, recipe)}"
        made = _made(root)
        if made is None:
            splits = self._splits(rows, labels, seed)
            note = "Made by a simulation."
            request = FitRequest(splits, self._classifier, recipe, note, continues_from=start)
            made = train(request, root, lambda _: None).directory
        return AdapterModel(made, self._rows.texts, self._classifier, self._cache)

    def _key(self, rows: Indices, labels: Indices, start: Path | None, recipe: TrainerSettings) -> str:
        parent = read_manifest(start).content_hash if start else self._classifier.base_model
        parts = [self._rows.sha256, rows.tolist(), labels.tolist(), parent, recipe.recipe()]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]

    def _splits(self, rows: Indices, labels: Indices, seed: int) -> Splits:
        shares = (1 - _VALIDATION_SHARE, _VALIDATION_SHARE)
        part = np.array(stratified_split(labels.tolist(), range(len(labels)), seed, shares))
        return Splits(*(_subset(self._rows, rows[part == one], labels[part == one]) for one in (0, 1)))


def trained_start(
    rows: Dataset, start: Start, classifier: ClassifierSettings, cache: Path, report: Report
) -> Path:
    """Directory of an adapter fitted on a share of the rows; fitted only where it is not there yet.

    Raises:
        ModelError: If the base cannot be had.
        AdapterError: If it cannot be written.
    """
    share, recipe = start.share, start.recipe
    what = [rows.sha256, rows.names, share, classifier.base_model, classifier.task]
    key = hashlib.sha256(json.dumps([*what, recipe.recipe()], sort_keys=True).encode())
    root = cache / f"start-{key.hexdigest()[:16]}"
    made = _made(root)
    if made is not None:
        return made
    shares = [share * (1 - _VALIDATION_SHARE), share * _VALIDATION_SHARE, max(1e-9, 1 - share)]
    part = np.array(stratified_split(rows.labels, range(len(rows)), recipe.seed, shares))
    labels = np.array(rows.labels, np.int64)
    splits = Splits(*(_subset(rows, np.flatnonzero(part == one), labels[part == one]) for one in (0, 1)))
    request = FitRequest(splits, classifier, recipe, note=f"Made on {share:.0%} of a stream.")
    return train(request, root, report).directory


def _made(root: Path) -> Path | None:
    """The directory of the adapter that was made there before; None where there is none."""
    return next((file.parent for file in sorted(root.glob(f"*/{MANIFEST}"))), None)


def _subset(rows: Dataset, positions: Indices, labels: Indices) -> Dataset:
    """Some rows of a data set, with these labels."""
    texts = tuple(rows.texts[position] for position in positions)
    return Dataset(texts, tuple(labels.tolist()), rows.names, rows.sha256)
