"""How a night's plan is fitted: by the product's own functions, with embeddings and fits kept in a cache.

With heads alone nothing of the base is computed twice: its features of all rows are in the cache, a head is
fitted on them, and no adapter is written. With LoRA each candidate is an adapter directory, as it would be
registered. Adapters are kept in the cache under all that they follow from, so none is fitted twice.
"""

import hashlib
import io
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifier.adapters.manifest import MANIFEST, read_manifest
from classifier.adapters.store import write_files
from classifier.base_model import BaseModel, locate
from classifier.calibration import Floats, from_probabilities, softmax
from classifier.devices import choose_device, describe_dtype
from classifier.interface import load
from classifier.settings import ClassifierSettings
from reviews.prediction import Prediction
from reviews.task import LabelSettings
from trainer.data.dataset import Dataset
from trainer.data.splitting import stratified_split
from trainer.fitting.features import FeaturesOf, FrozenFeatures, KeptFeatures
from trainer.fitting.fit import train
from trainer.fitting.fit_data import (
    Fit,
    FitProgress,
    FitRequest,
    Measured,
    Outcome,
    Position,
    Report,
    Resources,
    SplitPredictions,
    Splits,
    fingerprint,
)
from trainer.fitting.head import Head
from trainer.fitting.head_adapter import head_of
from trainer.fitting.head_fit import RunFits, fitted_head
from trainer.fitting.outputs import write_whole
from trainer.fitting.prototypes import prototype_head
from trainer.fitting.zero_shot import MOST_SAMPLED, TEMPERATURE, ReferenceTexts, zero_shot_files
from trainer.nightly.candidates import CandidateFitter, best, fit_within, plan_fits
from trainer.nightly.cross_checks import held_out_by_folds
from trainer.nightly.snapshot import Snapshot
from trainer.settings import TrainerSettings
from trainer.simulation.experiment import Start
from trainer.simulation.loop import Fits, Model
from trainer.simulation.stream import Indices

_TEXTS_AT_ONCE = 500
_VALIDATION_SHARE = 0.15
Floats32 = npt.NDArray[np.float32]
Answer = Callable[[Sequence[str]], Floats32]


class StreamRows:
    """The texts of a stream, what frozen models make of them, and the cache of both.

    Args:
        texts: In the order of the rows.
        classifier: Base, task, device and precision.
        max_length_tokens: Longer texts are cut, where features are computed.
        cache: Directory of the cache; made if need be.
    """

    def __init__(
        self, texts: Sequence[str], classifier: ClassifierSettings, max_length_tokens: int, cache: Path
    ) -> None:
        self.texts = tuple(texts)
        self.classifier = classifier
        self.cache = cache
        self.base = locate(classifier.base_model, classifier.base_revision)
        self._max_length_tokens = max_length_tokens
        self._row_of = {text: row for row, text in enumerate(self.texts)}

    def places(self, texts: Sequence[str]) -> Indices:
        """int64 (texts): the row of each."""
        return np.array([self._row_of[text] for text in texts], np.int64)

    def hold(self, texts: Sequence[str]) -> bool:
        """Whether all of these are texts of the stream."""
        return all(text in self._row_of for text in texts)

    def features(self, adapter: Path | None) -> Floats32:
        """float32 (rows, width): what a head on the base, or on an adapter, reads of all texts.

        Raises:
            ModelError: If the base cannot be had, or has no such features.
            AdapterError: If the adapter is damaged or belongs to another base.
        """
        return self._features(self.texts, adapter)

    def features_of(self, texts: Sequence[str], adapter: Path | None = None) -> Floats32:
        """float32 (texts, width): what a head on the base, or on an adapter, reads of other texts."""
        return self._features(texts, adapter)

    def probabilities(self, adapter: Path, rows: Indices) -> Floats:
        """float64 (rows, labels): what an adapter says, calibrated; rows sum to 1.

        Raises:
            AdapterError: If the adapter is damaged or belongs to another base.
        """
        texts = [self.texts[row] for row in rows]
        found = self._kept(["said", self._name(adapter)], texts, _Lazily(lambda: self._scorer(adapter)))
        return found.astype(np.float64)

    def _features(self, texts: Sequence[str], adapter: Path | None) -> Floats32:
        model = ["features", str(self._max_length_tokens), self._name(adapter)]
        return self._kept(model, texts, _Lazily(lambda: self._embedder(adapter)))

    def _name(self, adapter: Path | None) -> str:
        version = "base" if adapter is None else read_manifest(adapter, self.classifier.task).content_hash
        return f"{self.base.weights_sha256} {version} {self.classifier.precision}"

    def _embedder(self, adapter: Path | None) -> Answer:
        return FrozenFeatures(self.base, self.classifier, self._max_length_tokens, adapter)

    def _scorer(self, adapter: Path) -> Answer:
        classifier = load(self.classifier.base_model, adapter, self.classifier)
        return lambda texts: np.array([one.probabilities for one in classifier.predict(texts)], np.float32)

    def _kept(self, model: list[str], texts: Sequence[str], answer: Answer) -> Floats32:
        """What the model says of these texts, part by part from its file or into it."""
        parts = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            part = texts[start : start + _TEXTS_AT_ONCE]
            key = hashlib.sha256("\0".join([*model, *part]).encode("utf-8", "surrogatepass")).hexdigest()
            file = self.cache / f"{key[:32]}.npy"
            if not file.is_file():
                content = io.BytesIO()
                np.save(content, answer(part))
                write_whole(file, content.getvalue())
            parts.append(np.load(file, allow_pickle=False))
        return np.concatenate(parts)


class _Lazily:
    """Loads the model when the first text is not in the cache."""

    def __init__(self, make: Callable[[], Answer]) -> None:
        self._make = make
        self._answer: Answer | None = None

    def __call__(self, texts: Sequence[str]) -> Floats32:
        self._answer = self._answer or self._make()
        return self._answer(texts)


class RowModel:
    """What scores rows of the stream by their number, and texts of it as the gate asks for them."""

    def __init__(self, rows: StreamRows, labels: tuple[str, ...]) -> None:
        self._rows = rows
        self.labels = labels

    def __call__(self, rows: Indices) -> Floats:
        """float64 (rows, labels): calibrated probabilities, rows sum to 1."""
        raise NotImplementedError

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """One prediction per text of the stream."""
        return from_probabilities(
            self(self._rows.places(texts)),
            task=self._rows.classifier.task,
            labels=self.labels,
            truncated=np.zeros(len(texts), np.bool_),
            adapter_version="simulated",
        )


class HeadModel(RowModel):
    """A head on frozen features, which are in the cache for all rows.

    Args:
        rows: The stream.
        labels: Names of the classes.
        head: Reads the features.
        features: float32 (all rows, width).
        directory: What stands for the directory of its adapter.
    """

    def __init__(
        self, rows: StreamRows, labels: tuple[str, ...], head: Head, features: Floats32, directory: Path
    ) -> None:
        super().__init__(rows, labels)
        self.directory = directory
        self._said = softmax(head.logits(features))

    def __call__(self, rows: Indices) -> Floats:
        """float64 (rows, labels): calibrated probabilities, rows sum to 1."""
        return np.asarray(self._said[rows])


class AdapterModel(RowModel):
    """An adapter; what it has said is kept in the cache."""

    def __init__(self, rows: StreamRows, directory: Path) -> None:
        super().__init__(rows, read_manifest(directory, rows.classifier.task).labels)
        self.directory = directory

    def __call__(self, rows: Indices) -> Floats:
        """float64 (rows, labels): calibrated probabilities, rows sum to 1."""
        return self._rows.probabilities(self.directory, rows)


class StoredFeatures(KeptFeatures):
    """Features of the stream's rows, from the cache.

    Args:
        rows: The stream.
        of_adapters: Whether those of adapters are kept, too: of the few that heads alone are fitted on.
    """

    def __init__(self, rows: StreamRows, *, of_adapters: bool) -> None:
        super().__init__(rows.classifier)
        self._rows = rows
        self._of_adapters = of_adapters
        self._of_rows: dict[Path | None, Floats32] = {}
        self._heads: dict[Path | None, tuple[Head, Path | None]] = {}

    def keep(self, head: Head, body: Path | None) -> Path:
        """What stands for the directory of an adapter with this head on this body."""
        if body in self._heads:
            body = self._heads[body][1]
        place = Path(f"head-{len(self._heads)}")
        self._heads[place] = head, body
        return place

    def head(self, adapter: Path | None) -> Head | None:
        """The head that a fit continues from; None where it is none that reads these features."""
        if adapter in self._heads:
            return self._heads[adapter][0]
        return None if adapter is None else head_of(adapter)

    def of(self, base: BaseModel, max_length_tokens: int, adapter: Path | None = None) -> FeaturesOf:
        """Texts to their features: the base's, or those of the first adapter, of all rows at once."""
        if adapter is not None and not self._of_adapters:
            return super().of(base, max_length_tokens, adapter)
        features = self.of_rows(adapter)

        def found(texts: Sequence[str]) -> Floats32:
            if self._rows.hold(texts):
                return features[self._rows.places(texts)]
            return self._rows.features_of(texts, adapter)  # the probes of an adapter that is written

        return found

    def of_rows(self, adapter: Path | None) -> Floats32:
        """float32 (all rows, width): of a head's body."""
        if adapter in self._heads:
            adapter = self._heads[adapter][1]
        if adapter not in self._of_rows:
            self._of_rows[adapter] = self._rows.features(adapter)
        return self._of_rows[adapter]


class NightFits:
    """Fits the plan of a night with the product's planner and fitter.

    Args:
        rows: The stream.
        settings: The plan, and how LoRA is fitted.
        heads_alone: Whether candidates are heads that are written nowhere: the plan has no others.
    """

    def __init__(self, rows: StreamRows, settings: TrainerSettings, *, heads_alone: bool) -> None:
        self._rows = rows
        self._settings = settings
        self._heads_alone = heads_alone
        self._features = StoredFeatures(rows, of_adapters=heads_alone)
        self._fits = RunFits(rows.classifier, features=self._features)

    def __call__(self, snapshot: Snapshot, active: Model | None, seed: int) -> Fits | None:
        """The best candidate; None where no recipe can be fitted on these labels.

        Raises:
            TrainingStopped: If all of them diverge; one alone takes no part in the night, as in the product.
        """
        plans, _ = plan_fits(snapshot, self._settings, _directory(active), seed)
        if not plans:
            return None
        fitter = CandidateFitter(snapshot, self._rows.classifier, self._fit, lambda _: _silent, seed)
        done, _ = fit_within(plans, math.inf, lambda plan, _: fitter.candidate_of(plan), time.monotonic)
        chosen = best(done)
        checks = held_out_by_folds([one.checks for one in done], len(snapshot.names))
        candidate = self._model(chosen.outcome, chosen.plan.continues_from, snapshot.names)
        return Fits(candidate, chosen.plan.name, checks)

    def zero_shot(self, labels: Sequence[LabelSettings]) -> tuple[Model, str]:
        """The zero-shot model, standardised on the stream's first reviews, and a hash of its content.

        Args:
            labels: Each with a text at least.

        Raises:
            ModelError: If the base cannot be had, or has no space of sentences.
            WrongUse: If the labels cannot be told apart.
        """
        rows = self._rows
        if not self._heads_alone:
            sample = ReferenceTexts(rows.texts, "the stream")
            _, files = zero_shot_files(labels, sample, rows.classifier, self._settings)
            directory = write_files(files, rows.cache / "zero-shot", rows.classifier.task)
            return AdapterModel(rows, directory), directory.name
        features = self._features.of_rows(None)
        head = prototype_head([rows.features_of(label.texts) for label in labels], features[:MOST_SAMPLED])
        content = hashlib.sha256(head.weights.tobytes() + head.bias.tobytes()).hexdigest()
        names = tuple(label.name for label in labels)
        head = calibrated(head, TEMPERATURE)
        return HeadModel(rows, names, head, features, self._features.keep(head, None)), content

    def _fit(self, request: FitRequest, report: Report) -> Outcome | None:
        if self._heads_alone:  # as in a check: no adapter is written
            parent, length = request.continues_from, request.settings.max_length_tokens
            alone = replace(request, is_check=True, continues_from=None)
            features = self._features.of(self._rows.base, length, parent)
            return fitted_head(alone, self._rows.base, features, self._features.head(parent))
        return _kept_outcome(self._rows, request, report, self._fits)

    def _model(self, outcome: Outcome, body: Path | None, names: tuple[str, ...]) -> Model:
        if not self._heads_alone:
            return AdapterModel(self._rows, adapter_directory(self._rows, outcome))
        if outcome.head is None:
            raise RuntimeError("A plan of heads alone has fitted something else.")
        head = calibrated(outcome.head, outcome.measured.temperature)
        return HeadModel(
            self._rows, names, head, self._features.of_rows(body), self._features.keep(head, body)
        )


def calibrated(head: Head, temperature: float) -> Head:
    """The head whose logits are divided by the temperature, as a fit continues from it."""
    return Head(head.weights / temperature, head.bias / temperature)


def _silent(_: FitProgress) -> None:
    """What a fit calls after each step."""


def _directory(active: Model | None) -> Path | None:
    """Of the adapter that recipes may continue from; None where there is none."""
    return active.directory if isinstance(active, HeadModel | AdapterModel) else None


def adapter_directory(rows: StreamRows, outcome: Outcome) -> Path:
    """The directory of an adapter in the cache, written where it is not there yet."""
    root = rows.cache / f"adapter-{outcome.fingerprint[:24]}"
    return _made(root) or write_files(outcome.files, root, rows.classifier.task)


def _kept_outcome(rows: StreamRows, request: FitRequest, report: Report, fit: Fit) -> Outcome | None:
    """The outcome of a fit that was done before, or of this one, which is kept."""
    test = None if request.splits.test is None else request.splits.test.sha256
    device = choose_device(request.classifier.device)
    name = fingerprint(request, rows.base, describe_dtype(request.classifier.precision, device)[0])
    what = f"{name} {request.kind} {request.is_check} {request.learns_validation} {test}"
    key = hashlib.sha256(what.encode()).hexdigest()
    file = rows.cache / f"fit-{key[:24]}.npz"
    if file.is_file():
        return _read_outcome(file, rows)
    outcome = fit(request, report)
    if outcome is not None:
        _write_outcome(replace(outcome, fingerprint=key), file, rows)
        return replace(outcome, fingerprint=key)
    return None


def _write_outcome(outcome: Outcome, file: Path, rows: StreamRows) -> None:
    if outcome.files:
        adapter_directory(rows, outcome)
    measured = outcome.measured
    about = {
        "position": asdict(outcome.position),
        "resources": asdict(outcome.resources),
        "temperature": measured.temperature,
        "metrics": measured.metrics,
        "fingerprint": outcome.fingerprint,
    }
    arrays: dict[str, Any] = {"about": np.array(json.dumps(about))}
    for split, said in measured.predictions.items():
        arrays |= {f"{split} said": said.probabilities, f"{split} truth": said.truth}
    content = io.BytesIO()
    np.savez(content, **arrays)
    write_whole(file, content.getvalue())


def _read_outcome(file: Path, rows: StreamRows) -> Outcome:
    with np.load(file, allow_pickle=False) as found:
        about = json.loads(str(found["about"]))
        splits = [name.removesuffix(" said") for name in found.files if name.endswith(" said")]
        predictions = {
            split: SplitPredictions(found[f"{split} said"], found[f"{split} truth"]) for split in splits
        }
    made = _made(rows.cache / f"adapter-{about['fingerprint'][:24]}")
    return Outcome(
        {} if made is None else {one.name: one.read_bytes() for one in made.iterdir()},
        Measured(about["temperature"], about["metrics"], predictions),
        Position(**about["position"]),
        Resources(**about["resources"]),
        rows.base,
        about["fingerprint"],
    )


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
