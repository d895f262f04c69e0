"""One fit as data: what is asked for, how far it has come, and what came out."""

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from classifier.adapters.files import FileSource
from classifier.adapters.manifest import CONFIG, AdapterManifest, parse_manifest, read_manifest
from classifier.base_model import BaseModel
from classifier.calibration import Floats
from classifier.devices import choose_device, describe_dtype
from classifier.settings import ClassifierSettings
from reviews.errors import WrongUse
from trainer.data.dataset import Dataset
from trainer.fitting.head import Head
from trainer.settings import FitKind, TrainerSettings


@dataclass(frozen=True, slots=True)
class Splits:
    """Rows to learn from, to choose by, and to report on."""

    train: Dataset
    validation: Dataset
    test: Dataset | None = None

    def by_name(self) -> dict[str, Dataset]:
        """The splits that are there, by name."""
        splits = {"train": self.train, "validation": self.validation}
        return splits | ({"test": self.test} if self.test is not None else {})

    def check_classes(self) -> None:
        """Refuse splits that do not have the same classes in the same order.

        Raises:
            WrongUse: If they differ.
        """
        for name, dataset in self.by_name().items():
            if dataset.names != self.train.names:
                raise WrongUse(
                    f"The {name} rows have the classes {', '.join(dataset.names)}, the training rows "
                    f"{', '.join(self.train.names)}; name them with --labels, or correct the file."
                )


@dataclass(frozen=True, slots=True)
class FitRequest:
    """What a fit is asked to do.

    Attributes:
        splits: The rows; all splits have the same classes.
        classifier: Names the base model, the task, the device and the precision.
        settings: The recipe.
        note: A paragraph for the card: the command, where the data come from.
        continues_from: Directory of the adapter to continue from, whose shape is taken instead of the
            recipe's; None for a fresh adapter.
        kind: Whether LoRA is fitted, a head alone on frozen features, or LoRA and then a head on the
            features of its matrices.
        speaks_for: How many reviews of the stream each training row speaks for, up to a factor: a head is
            fitted so that labels are predicted as often as they occur. None: unknown.
        learns_validation: Whether a head trains on the validation rows, too: what is measured on these is
            then what fits without them say.
        is_new: Of each row that a head trains on, training rows first, whether the adapter to continue from
            was not trained on it: what is chosen by left-out rows is chosen by these. None: all are.
        is_check: Whether only what it measures is wanted: then the files of a head are not made.
        seconds: The time for steps and validations; None: any. What a fit with a limit ends with depends on
            how fast the machine is.
    """

    splits: Splits
    classifier: ClassifierSettings
    settings: TrainerSettings
    note: str = ""
    continues_from: Path | None = None
    kind: FitKind = "lora"
    learns_validation: bool = False
    is_check: bool = False
    speaks_for: tuple[float, ...] | None = None
    is_new: tuple[bool, ...] | None = None
    seconds: float | None = None

    def parent(self) -> AdapterManifest | None:
        """The manifest of the adapter that the fit continues from; None where it starts afresh.

        Raises:
            AdapterError: If it is damaged.
        """
        return (
            None if self.continues_from is None else read_manifest(self.continues_from, self.classifier.task)
        )


@dataclass(frozen=True, slots=True)
class FitProgress:
    """Where the fitting is.

    Attributes:
        epoch: From 1; 0 while the features of a head's rows are computed.
        step: Optimiser steps done, over all epochs; of features, batches of texts.
        steps: How many there are in all.
        loss: Mean cross-entropy of the last step's rows, in nats; 0 of features.
        learning_rate: Of that step.
        validation: Metrics on the validation rows, after the last step of an epoch.
    """

    epoch: int
    step: int
    steps: int
    loss: float
    learning_rate: float
    validation: dict[str, float] | None = None


Report = Callable[[FitProgress], None]
"""Called with every step."""


@dataclass(slots=True)
class Position:
    """How far a fit has come, as its checkpoint keeps it.

    Attributes:
        steps: Optimiser steps done, over all epochs.
        validated: Epochs whose validation is done.
        best_epoch: The best of these, from 1; 0 before the first.
        best_score: Its validation macro-F1.
        kept_epoch: The one whose weights are kept: the last that is not clearly worse than the best.
        history: Validation metrics of each validated epoch, with the mean training loss.
        losses: Sum of the losses of the current epoch, and of how many steps.
    """

    steps: int = 0
    validated: int = 0
    best_epoch: int = 0
    best_score: float = -1.0
    kept_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    losses: tuple[float, int] = (0.0, 0)


@dataclass(frozen=True, slots=True)
class SplitPredictions:
    """What a model predicts for a split.

    Attributes:
        probabilities: float64 (rows, classes), calibrated.
        truth: int64 (rows), the true classes.
    """

    probabilities: Floats
    truth: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Measured:
    """How good a model is.

    Attributes:
        temperature: Fitted on the validation rows, or on all rows as fits without them see them.
        metrics: By split and name; those of the last split with their 95 % intervals.
        predictions: By split.
    """

    temperature: float
    metrics: dict[str, float]
    predictions: dict[str, SplitPredictions]


@dataclass(frozen=True, slots=True)
class Resources:
    """What a fit took.

    Attributes:
        device: Where it ran.
        seconds: From start to end, loading included.
        fit_seconds: Of these, the optimiser's steps and the validations.
        peak_memory_bytes: The most that the process held, over its whole life.
        peak_gpu_bytes: The most that PyTorch held on the GPU; None without one.
        trainable_parameters: Numbers that were fitted.
        parameters: Numbers in the model.
        saved_bytes: Size of the saved weights and their configuration.
        base_bytes: Size of the base's weights.
    """

    device: str
    seconds: float
    fit_seconds: float
    peak_memory_bytes: int
    peak_gpu_bytes: int | None
    trainable_parameters: int
    parameters: int
    saved_bytes: int
    base_bytes: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """A fitted model, not yet written anywhere.

    Attributes:
        files: The adapter's files; of full fine-tuning, those of a whole model.
        measured: How good it is.
        position: The end of the fitting, with every epoch's metrics.
        resources: What it took.
        base: The base it was fitted on.
        fingerprint: Of everything that decides what the fit ends with.
        head: The head, where it was fitted alone.
    """

    files: Mapping[str, bytes]
    measured: Measured
    position: Position
    resources: Resources
    base: BaseModel
    fingerprint: str
    head: Head | None = None

    @property
    def manifest(self) -> AdapterManifest | None:
        """What the adapter says about itself; None of a full model."""
        if CONFIG not in self.files:
            return None
        return parse_manifest(FileSource("The new adapter", self.files))


Fit = Callable[[FitRequest, Report], Outcome | None]
"""Does one fit; None in every process of a group but the first."""


def fingerprint(request: FitRequest, base: BaseModel, dtype: object, processes: int = 1) -> str:
    """A name for everything that decides what a fit ends with, but the machine and the libraries."""
    recipe = request.settings.recipe()
    recipe.pop("checkpoint_steps")  # how often the state is kept does not change it
    for name, before in (("adapted_layers", None), ("gradient_precision", "auto"), ("pooling", "first")):
        if recipe[name] == before:  # checkpoints of the version before stay valid
            recipe.pop(name)
    splits = (request.splits.train, request.splits.validation)
    data = [(rows.sha256, rows.names) for rows in splits]
    parts = [recipe, base.weights_sha256, str(dtype), processes, data]
    # Only where there are any: checkpoints of the version before stay valid.
    if request.splits.train.weights is not None:
        parts.append(request.splits.train.weights)
    if request.is_new is not None:
        parts.append(request.is_new)
    if (parent := request.parent()) is not None:
        parts.append(parent.content_hash)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def peak_memory_bytes() -> int:
    """The most memory that this process has held."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB


def peak_gpu_bytes(device: Any) -> int | None:
    """The most that PyTorch has held on that GPU since the fit began; None for another device."""
    import torch

    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else None


def describe_device(settings: ClassifierSettings) -> str:
    """The device that these settings choose, its number format, and a GPU's name and free memory.

    Raises:
        ModelError: If the device is not there.
    """
    import torch

    device = choose_device(settings.device)
    number_format, reason = describe_dtype(settings.precision, device)
    said = f"{device}, {number_format}, as {reason}"
    if device.type != "cuda":
        return said
    free, total = torch.cuda.mem_get_info(device)
    name = torch.cuda.get_device_name(device)
    return f"{said}, {name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"


def weights_bytes(directory: Path) -> int:
    """Size of a base model's weights."""
    return sum(file.stat().st_size for file in directory.glob("*.safetensors"))
