"""Adapters of which only the head was fitted, written as any other: peft's files, a manifest, probes.

The head reads the mean over the tokens (:mod:`classifier.engine.pooling`). On the base alone it comes with
LoRA matrices that change nothing yet (B is 0), in the shape that the recipe gives a fit: a later fit of LoRA
can continue from it. On an adapter it takes the place of that adapter's head; the matrices stay.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from classifier.adapters.manifest import CONFIG, WEIGHTS, read_config, read_files
from classifier.adapters.store import assemble, peft_files, write_files
from classifier.base_model import BaseModel, quiet_transformers
from classifier.calibration import softmax
from classifier.classifier import Classifier
from classifier.interface import load
from classifier.model import head_modules, load_base
from classifier.settings import ClassifierSettings
from classifier.verification import SHORT_PROBE_TEXTS
from reviews.errors import AdapterError
from trainer.fitting.features import HEAD_MODULE, FeaturesOf
from trainer.fitting.finish import probes_of, saved_dtype
from trainer.fitting.head import Head
from trainer.fitting.recipe import adapt
from trainer.settings import TrainerSettings

_TENSOR = "base_model.model.{}"  # what peft calls a model's tensor
_TOLERANCE = 0.05  # of a probability: features in bf16 differ from those in fp32 by less


def head_adapter_files(
    head: Head,
    base: BaseModel,
    classifier: ClassifierSettings,
    settings: TrainerSettings,
    fields: Mapping[str, Any],
    *,
    parent: Path | None = None,
    features: FeaturesOf | None = None,
    extra: Mapping[str, bytes] | None = None,
    card: str = "",
) -> dict[str, bytes]:
    """The files of an adapter with this head, ready for :func:`classifier.adapters.store.write_files`.

    Args:
        head: On the features of the base, or of the parent.
        base: The base model.
        classifier: Device; the saved form is loaded and asked in fp32.
        settings: The recipe, which gives new matrices their shape.
        fields: Of the manifest, task and labels at least; base, pooling and probes are filled in.
        parent: Directory of the adapter whose matrices are kept; None: they change nothing.
        features: What the head was fitted on: the saved form has to answer the probes as the head does on
            these. None: it is not compared.
        extra: Further files that belong to the adapter.
        card: Markdown for people; ``{version}`` stands for the adapter's version.

    Raises:
        AdapterError: If the adapter does not load again, or answers otherwise than the head.
        ModelError: If the base cannot be loaded, or has no mean that stands for a text.
        WrongUse: If the recipe names layers that the base does not have.
    """
    made = _zero_matrices(base, settings, fields["labels"]) if parent is None else _matrices_of(parent, base)
    files = _with_head(made, head) | dict(extra or {})
    complete = dict(fields) | {
        "base_model": base.name,
        "base_revision": base.revision,
        "base_sha256": base.weights_sha256,
        "pooling": "mean",
    }
    with tempfile.TemporaryDirectory() as scratch:
        exact = classifier.model_copy(update={"precision": "fp32"})
        saved = load(base.name, write_files(assemble(files, complete), Path(scratch)), exact)
    if features is not None:
        _require_same(saved, head, features)
    complete["probes"] = probes_of(saved, complete.get("temperature", 1.0))
    return assemble(files, complete, card)


def head_of(adapter: Path) -> Head | None:
    """The head of an adapter on the mean over the tokens, calibrated; None where it reads something else.

    Raises:
        AdapterError: If the adapter is damaged.
    """
    import safetensors.torch

    manifest, files = read_files(adapter)
    if manifest.pooling != "mean":
        return None
    tensors = safetensors.torch.load(files[WEIGHTS])
    weights, bias = (
        tensors[_TENSOR.format(f"{HEAD_MODULE}.{name}")].double().numpy() / manifest.temperature
        for name in ("weight", "bias")
    )
    return Head(weights, bias)


def _zero_matrices(base: BaseModel, settings: TrainerSettings, labels: Sequence[str]) -> dict[str, bytes]:
    """Peft's files of an adapter that changes nothing, in the shape of the recipe, with any head."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        with quiet_transformers():
            model = adapt(load_base(base, len(labels), "mean"), settings)
    return peft_files(model, base.name, saved_dtype(settings))


def _matrices_of(parent: Path, base: BaseModel) -> dict[str, bytes]:
    """Peft's files of an adapter without its head and what only that reads."""
    import safetensors.torch

    manifest, files = read_files(parent)
    model = load_base(base, len(manifest.labels), manifest.pooling)
    heads = {*head_modules(model), "pooler"}
    config = read_config(parent)
    config["modules_to_save"] = sorted({*(config.get("modules_to_save") or ())} - heads | {HEAD_MODULE})
    tensors = {
        name: tensor
        for name, tensor in safetensors.torch.load(files[WEIGHTS]).items()
        if heads.isdisjoint(name.split(".")) or ".lora_" in name
    }
    return {
        CONFIG: (json.dumps(config, indent=2, sort_keys=True) + "\n").encode(),
        WEIGHTS: safetensors.torch.save(tensors, metadata={"format": "pt"}),
    }


def _with_head(files: Mapping[str, bytes], head: Head) -> dict[str, bytes]:
    """Peft's files with this head, in fp32 whatever the matrices are in: it is small, and decides."""
    import safetensors.torch
    import torch

    tensors = safetensors.torch.load(files[WEIGHTS])
    for name, values in (("weight", head.weights), ("bias", head.bias)):
        tensors[_TENSOR.format(f"{HEAD_MODULE}.{name}")] = torch.from_numpy(values.astype(np.float32))
    return {**files, WEIGHTS: safetensors.torch.save(tensors, metadata={"format": "pt"})}


def _require_same(saved: Classifier, head: Head, features: FeaturesOf) -> None:
    temperature = saved.manifest.temperature
    # Short ones: a long text may be cut for the features and read in windows when it is served.
    found = softmax(saved.logits(saved.encode(SHORT_PROBE_TEXTS)), temperature)
    worst = float(np.abs(found - softmax(head.logits(features(SHORT_PROBE_TEXTS)), temperature)).max())
    if worst > _TOLERANCE:
        raise AdapterError(
            f"The new adapter does not answer as its head was fitted: a probability is off by {worst:.3f}. "
            "The features of this base depend on how it is computed; leave out recipes of the kind head."
        )
