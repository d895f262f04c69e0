"""One fit: from labelled rows to an adapter."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from classifier.adapters.manifest import CONFIG, WEIGHTS, AdapterManifest, read_manifest
from classifier.adapters.store import write_files
from classifier.base_model import BaseModel, locate, quiet_transformers
from classifier.devices import choose_device, choose_dtype
from classifier.model import load_base
from classifier.tokenise import Tokeniser, load_tokeniser
from classifier.verification import SHORT_PROBE_TEXTS
from reviews.errors import WrongUse
from trainer.data.dataset import Dataset
from trainer.fitting.features import KeptFeatures
from trainer.fitting.finish import adapter_files, full_model_files, measure
from trainer.fitting.fit_data import (
    FitRequest,
    Outcome,
    Report,
    Resources,
    fingerprint,
    peak_gpu_bytes,
    peak_memory_bytes,
    weights_bytes,
)
from trainer.fitting.head_start import begins_with_fitted_head, fitted_head, put_head
from trainer.fitting.recipe import adapt, in_shape
from trainer.settings import TrainerSettings

if TYPE_CHECKING:
    import torch

    from classifier.engine.general import Padding
    from trainer.fitting.loop import Rows
    from trainer.fitting.process_group import ProcessGroup

_WEIGHTS = (CONFIG, WEIGHTS, "model.safetensors")


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished fit.

    Attributes:
        directory: The adapter's directory, named by its content hash.
        manifest: What it says about itself, metrics included.
        trainable_parameters: How many numbers were fitted.
    """

    directory: Path
    manifest: AdapterManifest
    trainable_parameters: int


def train(request: FitRequest, output_root: Path, report: Report) -> Trained:
    """Fit an adapter and write it to ``output_root/CONTENT_HASH``.

    Raises:
        ModelError: If the base cannot be had.
        WrongUse: If the splits disagree on the classes or the recipe names layers that are not there.
        AdapterError: If the adapter cannot be written.
        TrainingStopped: If the fitting diverges.
    """
    if request.settings.peft_method == "none":
        raise WrongUse("Full fine-tuning makes no adapter; choose another method (peft_method).")
    outcome = fit(request, report)
    if outcome is None:
        raise WrongUse("Only the first process of a group writes the adapter.")
    directory = write_files(outcome.files, output_root)
    return Trained(directory, read_manifest(directory), outcome.resources.trainable_parameters)


def fit(
    request: FitRequest,
    report: Report,
    checkpoint_file: Path | None = None,
    group: "ProcessGroup | None" = None,
    features: KeptFeatures | None = None,
) -> Outcome | None:
    """Fit a model and measure it; None in every process but the first.

    Args:
        request: What to fit.
        report: Called with every step, in the first process.
        checkpoint_file: Where the state is kept; what is there already is continued. None keeps none.
        group: The processes that fit it together, which stay together; None: those that the environment
            names, which part at the end.
        features: Those of the base that are known, for the head that a fresh fit begins with; None: it
            computes them.

    Raises:
        ModelError: If the base cannot be had.
        WrongUse: If the splits disagree on the classes, the recipe names layers that are not there, the
            checkpoint belongs to another run, or the adapter to continue from has other classes.
        AdapterError: If the adapter does not load again, or the one to continue from does not fit.
        TrainingStopped: If the fitting diverges or the checkpoint cannot be written.
    """
    from trainer.fitting.checkpoint import Checkpoint
    from trainer.fitting.loop import FittingLoop
    from trainer.fitting.process_group import join_process_group, leave_process_group, local_device

    began = time.perf_counter()
    request.splits.check_classes()
    if request.seconds is not None and checkpoint_file is not None:
        raise WrongUse("A fit with a time limit keeps no checkpoint: it cannot be continued.")
    base = locate(request.classifier.base_model, request.classifier.base_revision)
    request = in_shape(request, base)
    device = local_device(choose_device(request.classifier.device))
    is_theirs, group = group is not None, group or join_process_group(device.type)
    tokeniser = load_tokeniser(base, request.settings.max_length_tokens)
    model, dtype, padding = _prepared(base, request, device, tokeniser)
    if group.is_first and begins_with_fitted_head(
        request
    ):  # the others of a group get the weights of the first
        put_head(model, fitted_head(request, base, features))
    name = fingerprint(request, base, _formats(request.settings, device, dtype), group.size)
    fitting = FittingLoop(model, request.settings, padding, dtype, group)
    fit_began = time.perf_counter()
    position = fitting.run(
        _rows(tokeniser, request.splits.train),
        _rows(tokeniser, request.splits.validation),
        report if group.is_first else lambda _: None,
        Checkpoint(checkpoint_file, name) if checkpoint_file is not None else None,
        None if request.seconds is None else request.seconds - group.of_first(fit_began - began),
    )
    fit_seconds = time.perf_counter() - fit_began
    if not is_theirs:
        leave_process_group(group)
    if not group.is_first:
        return None
    if request.settings.peft_method == "none":
        measured = measure(lambda texts: fitting.logits(tokeniser.encode(texts)), request)
        files = full_model_files(model, request.splits.train.names, request.settings.save_precision)
    else:
        files, measured = adapter_files(model, base, request, position.kept_epoch)
    sizes = {"trainable_parameters": _count(model, fitted=True), "parameters": _count(model, fitted=False)}
    resources = Resources(
        device=_describe(device, _formats(request.settings, device, dtype)),
        seconds=time.perf_counter() - began,
        fit_seconds=fit_seconds,
        peak_memory_bytes=peak_memory_bytes(),
        peak_gpu_bytes=peak_gpu_bytes(device),
        saved_bytes=sum(len(files[name]) for name in _WEIGHTS if name in files),
        base_bytes=weights_bytes(base.directory),
        **sizes,
    )
    return Outcome(files, measured, position, resources, base, name)


def _prepared(
    base: BaseModel, request: FitRequest, device: "torch.device", tokeniser: Tokeniser
) -> tuple[Any, "torch.dtype", "Padding"]:
    """The model with an adapter, fresh from the seed or another one's, on its device; format and padding."""
    import torch

    from classifier.engine.general import find_padding
    from trainer.fitting.cpu_layers import speed_up_adapters, speed_up_layers
    from trainer.fitting.loop import hold_frozen

    settings = request.settings
    dtype = choose_dtype(request.classifier.precision, device)
    torch.manual_seed(settings.seed)
    model = load_base(base, len(request.splits.train.names), settings.pooling or "first")
    probes = tokeniser.encode(SHORT_PROBE_TEXTS).rows()
    if not settings.base_dropout:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    if device.type == "cpu":
        # On a CPU the backward pass of PyTorch's fused attention takes 30 % of a step, the plain one 5 %.
        model.set_attn_implementation("eager")
        if not settings.base_dropout:
            speed_up_layers(model, probes)
    padding = find_padding(model, probes)
    if settings.gradient_checkpointing:
        _keep_fewer_activations(model)
    with quiet_transformers():
        model = adapt(model, settings, request.continues_from)
    if device.type == "cpu":
        speed_up_adapters(model, int8_gradients=_has_int8_gradients(settings, device, dtype))
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


def _has_int8_gradients(settings: TrainerSettings, device: "torch.device", dtype: "torch.dtype") -> bool:
    import torch

    from trainer.fitting.cpu_layers import multiplies_int8

    wanted = settings.gradient_precision == "auto" and settings.peft_method in ("lora", "rslora", "lora+")
    return wanted and device.type == "cpu" and dtype == torch.float32 and multiplies_int8()


def _formats(settings: TrainerSettings, device: "torch.device", dtype: "torch.dtype") -> str:
    """The number formats: those of the products, and of gradients where it is another one."""
    return f"{dtype}, gradients int8" if _has_int8_gradients(settings, device, dtype) else str(dtype)


def _describe(device: "torch.device", formats: str) -> str:
    """The device and the number formats, for people."""
    import torch

    name = f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    return f"{name}, {formats.removeprefix('torch.')}{threads}"
