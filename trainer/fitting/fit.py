"""Labelled rows in, adapter out: the whole of one training run."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from classifier.adapters.files import FileSource
from classifier.adapters.manifest import CONFIG, WEIGHTS, AdapterManifest, parse_manifest, read_manifest
from classifier.adapters.store import write_files
from classifier.base_model import BaseModel, locate, quiet_transformers
from classifier.devices import choose_device, choose_dtype
from classifier.model import load_base
from classifier.tokenise import Tokeniser, load_tokeniser
from classifier.verification import SHORT_PROBE_TEXTS
from reviews.errors import WrongUse
from trainer.data.dataset import Dataset
from trainer.fitting.finish import Measured, adapter_files, full_model_files, measure
from trainer.fitting.resources import Resources, Stopwatch, peak_gpu_bytes, peak_memory_bytes, weights_bytes
from trainer.fitting.warm_start import go_on_from, in_shape, parent_of

if TYPE_CHECKING:
    import torch

    from classifier.engine.general import Padding
    from classifier.settings import ClassifierSettings
    from trainer.fitting.checkpoint import Position
    from trainer.fitting.loop import Report, Rows
    from trainer.settings import TrainerSettings

_WEIGHTS = (CONFIG, WEIGHTS, "model.safetensors")


@dataclass(frozen=True, slots=True)
class Splits:
    """Rows to learn from, to choose by, and to report on."""

    train: Dataset
    validation: Dataset
    test: Dataset | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """What a run is asked to do.

    Attributes:
        splits: The rows; all splits have the same classes.
        classifier: Names the base model, the task, the device and the precision.
        settings: The recipe.
        note: A paragraph for the card: the command, where the data come from.
        start: Directory of an adapter to go on from; its shape is taken, whatever the recipe says of one.
    """

    splits: Splits
    classifier: "ClassifierSettings"
    settings: "TrainerSettings"
    note: str = ""
    start: Path | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A fitted model, not yet written anywhere.

    Attributes:
        files: The adapter's files; of full fine-tuning, those of a whole model.
        measured: How good it is.
        position: The end of the fitting, with every epoch's metrics.
        resources: What it took.
        base: The base it was fitted on.
        fingerprint: Of everything that decides what the run ends with.
    """

    files: Mapping[str, bytes]
    measured: Measured
    position: "Position"
    resources: Resources
    base: BaseModel
    fingerprint: str

    @property
    def manifest(self) -> AdapterManifest | None:
        """What the adapter says about itself; None of a full model."""
        if CONFIG not in self.files:
            return None
        return parse_manifest(FileSource("The new adapter", self.files))


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished run.

    Attributes:
        directory: The adapter's directory, named by its content hash.
        manifest: What it says about itself, metrics included.
        trainable_parameters: How many numbers were fitted.
    """

    directory: Path
    manifest: AdapterManifest
    trainable_parameters: int


def train(run: Run, output_root: Path, report: "Report") -> Trained:
    """Fit an adapter and write it to ``output_root/CONTENT_HASH``.

    Args:
        run: What to do.
        output_root: Where the adapter's directory is made.
        report: Told of every step.

    Raises:
        ModelError: If the base cannot be had.
        WrongUse: If the splits disagree on the classes or the recipe names layers that are not there.
        AdapterError: If the adapter cannot be written.
        TrainingStopped: If the fitting diverges.
    """
    if run.settings.peft_method == "none":
        raise WrongUse("Full fine-tuning makes no adapter; choose another method (peft_method).")
    outcome = fit(run, report)
    if outcome is None:
        raise WrongUse("Only the first process of a team writes the adapter.")
    directory = write_files(outcome.files, output_root)
    return Trained(directory, read_manifest(directory), outcome.resources.trainable_parameters)


def fit(run: Run, report: "Report", checkpoint_file: Path | None = None) -> Outcome | None:
    """Fit a model and measure it; None in every process of a team but the first.

    Args:
        run: What to do.
        report: Told of every step, in the first process.
        checkpoint_file: Where the state is kept; what is there already is continued. None keeps none.

    Raises:
        ModelError: If the base cannot be had.
        WrongUse: If the splits disagree on the classes, the recipe names layers that are not there, the
            checkpoint belongs to another run, or the adapter to go on from has other classes.
        AdapterError: If the adapter does not load again, or the one to go on from does not fit.
        TrainingStopped: If the fitting diverges or the checkpoint cannot be written.
    """
    from trainer.fitting.checkpoint import Checkpoint
    from trainer.fitting.loop import Fit
    from trainer.fitting.process_group import join_team, leave_team, local_device

    watch = Stopwatch()
    check_classes(run.splits)
    base = locate(run.classifier.base_model, run.classifier.base_revision)
    run = in_shape(run, base)
    device = local_device(choose_device(run.classifier.device))
    team = join_team(device.type)
    tokeniser = load_tokeniser(base, run.settings.max_length_tokens)
    model, dtype, padding = _prepared(base, run, device, tokeniser)
    name = fingerprint(run, base, dtype, team.size)
    fitting = Fit(model, run.settings, padding, dtype, team)
    fit_watch = Stopwatch()
    position = fitting.run(
        _rows(tokeniser, run.splits.train),
        _rows(tokeniser, run.splits.validation),
        report if team.is_first else lambda _: None,
        Checkpoint(checkpoint_file, name) if checkpoint_file is not None else None,
    )
    fit_seconds = fit_watch.seconds
    leave_team(team)
    if not team.is_first:
        return None
    if run.settings.peft_method == "none":
        measured = measure(lambda texts: fitting.logits(tokeniser.encode(texts)), run)
        files = full_model_files(model, run.splits.train.names, run.settings.save_precision)
    else:
        files, measured = adapter_files(model, base, run, position.best_epoch)
    sizes = {"trainable_parameters": _count(model, fitted=True), "parameters": _count(model, fitted=False)}
    resources = Resources(
        device=_describe(device, dtype),
        seconds=watch.seconds,
        fit_seconds=fit_seconds,
        peak_memory_bytes=peak_memory_bytes(),
        peak_gpu_bytes=peak_gpu_bytes(device),
        saved_bytes=sum(len(files[name]) for name in _WEIGHTS if name in files),
        base_bytes=weights_bytes(base.directory),
        **sizes,
    )
    return Outcome(files, measured, position, resources, base, name)


def check_classes(splits: Splits) -> None:
    """Refuse splits that do not have the same classes in the same order.

    Raises:
        WrongUse: If they differ.
    """
    for name, dataset in (("validation", splits.validation), ("test", splits.test)):
        if dataset is not None and dataset.names != splits.train.names:
            raise WrongUse(
                f"The {name} rows have the classes {', '.join(dataset.names)}, the training rows "
                f"{', '.join(splits.train.names)}; name them with --labels, or mend the file."
            )


def fingerprint(run: Run, base: BaseModel, dtype: object, processes: int = 1) -> str:
    """A name for everything that decides what a run ends with, but the machine and the libraries."""
    recipe = run.settings.recipe()
    recipe.pop("checkpoint_steps")  # how often the state is kept does not change it
    splits = (run.splits.train, run.splits.validation)
    parts = [
        recipe,
        base.weights_sha256,
        str(dtype),
        processes,
        [(rows.sha256, rows.names) for rows in splits],
    ]
    # Only where there are any: checkpoints of the version before are still theirs.
    if run.splits.train.weights is not None:
        parts.append(run.splits.train.weights)
    if (parent := parent_of(run)) is not None:
        parts.append(parent.content_hash)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _prepared(
    base: BaseModel, run: Run, device: "torch.device", tokeniser: Tokeniser
) -> tuple[Any, "torch.dtype", "Padding"]:
    """The model with an adapter, fresh from the seed or another one's, on its device; format and padding."""
    import torch

    from classifier.engine.general import find_padding
    from trainer.fitting.recipe import adapt
    from trainer.fitting.steps import hold_frozen

    settings = run.settings
    dtype = choose_dtype(run.classifier.precision, device)
    torch.manual_seed(settings.seed)
    model = load_base(base, len(run.splits.train.names))
    padding = find_padding(model, tokeniser.encode(SHORT_PROBE_TEXTS).rows())
    if not settings.base_dropout:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    if device.type == "cpu":
        # On a CPU the backward pass of PyTorch's fused attention takes 30 % of a step, the plain one 5 %.
        model.set_attn_implementation("eager")
    if settings.gradient_checkpointing:
        _keep_fewer_activations(model)
    with quiet_transformers():
        start = run.start
        model = adapt(model, settings) if start is None else go_on_from(start, model, settings)
    hold_frozen(model, dtype, is_dora=settings.peft_method == "dora")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        # The same sums in the same order on every run; cuBLAS reads this when it is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(mode=True, warn_only=True)
    return model.to(device), dtype, padding


def _keep_fewer_activations(model: Any) -> None:
    if not model.supports_gradient_checkpointing:
        raise WrongUse(
            f"{model.config.model_type} cannot compute its activations twice; leave that option out."
        )
    # transformers 5.23 renamed it.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def _rows(tokeniser: Tokeniser, dataset: Dataset) -> "Rows":
    from trainer.fitting.loop import Rows

    weights = None if dataset.weights is None else np.array(dataset.weights, np.float32)
    return Rows(tokeniser.encode(dataset.texts), np.array(dataset.labels, np.int64), weights)


def _count(model: Any, *, fitted: bool) -> int:
    return sum(value.numel() for value in model.parameters() if value.requires_grad or not fitted)


def _describe(device: "torch.device", dtype: "torch.dtype") -> str:
    """The device and the number format, for people."""
    import torch

    name = f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    return f"{name}, {str(dtype).removeprefix('torch.')}{threads}"
