"""Saves the trained weights, loads them again as a consumer does, and measures them."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifier.adapters.manifest import Probe
from classifier.adapters.sample import SAMPLE, sample_file
from classifier.adapters.store import assemble, peft_files, write_files
from classifier.base_model import BaseModel, quiet_transformers
from classifier.calibration import fit_temperature, softmax
from classifier.classifier import Classifier
from classifier.interface import load
from classifier.verification import PROBE_TEXTS
from trainer.fitting.fit_data import FitRequest, Measured, SplitPredictions
from trainer.fitting.head import ENOUGH_NEW, judged_by
from trainer.fitting.relabelled import named_parent
from trainer.metrics import calibration_limit, evaluate, metric_intervals
from trainer.settings import TrainerSettings


def adapter_files(
    model: Any, base: BaseModel, request: FitRequest, epoch: int
) -> tuple[dict[str, bytes], Measured]:
    """The files of a fitted adapter, with temperature, metrics and probes measured on the saved form.

    Raises:
        AdapterError: If the adapter cannot be written.
    """
    files = peft_files(model, base.name, saved_dtype(request.settings))
    if request.settings.held_out_texts:
        files[SAMPLE] = held_out_sample(request)
    fields = fields_of(base, request, epoch)
    with tempfile.TemporaryDirectory() as scratch:
        # fp32 is the reference that engines are compared with, whatever they compute in.
        exact = request.classifier.model_copy(update={"precision": "fp32"})
        saved = load(base.name, write_files(assemble(files, fields), Path(scratch)), exact)
    measured = measure(lambda texts: saved.logits(saved.encode(texts)), request)
    fields |= {
        "temperature": measured.temperature,
        "metrics": measured.metrics,
        "probes": probes_of(saved, measured.temperature),
    }
    return assemble(files, fields, card(fields, request.note)), measured


def held_out_sample(request: FitRequest) -> bytes:
    """Held-out texts that travel with the adapter: faster number formats are judged on them."""
    held_out = list(request.splits.by_name().values())[-1]
    return sample_file(held_out.texts, held_out.labels, request.settings.held_out_texts)


def measure(
    logits: Callable[[Sequence[str]], npt.NDArray[np.floating]],
    request: FitRequest,
    left_out: npt.NDArray[np.floating] | None = None,
) -> Measured:
    """Fit the temperature on the validation rows and measure all rows that were not trained on.

    Args:
        logits: Texts to logits (texts, classes).
        request: Holds the rows.
        left_out: (rows, classes), of training and, behind them, validation rows, where both were trained on:
            what fits without each row say of it. The temperature is then fitted on those that are new, where
            these are enough; of the kind ``refit`` on validation rows alone, as the matrices were fitted to
            the training rows.
    """
    splits = request.splits
    raw = {
        name: (logits(rows.texts), np.array(rows.labels, np.int64))
        for name, rows in splits.by_name().items()
        if name != "train" and (left_out is None or name != "validation")
    }
    if left_out is None:
        temperature = fit_temperature(*raw["validation"])
    else:
        truth = np.array(splits.train.labels + splits.validation.labels, np.int64)
        behind = len(splits.train)
        judged = judged_by(truth, None if request.is_new is None else np.array(request.is_new, np.bool_))
        if request.kind == "refit":
            is_validation = np.arange(len(truth)) >= behind
            judged = judged & is_validation if (judged & is_validation).sum() >= ENOUGH_NEW else is_validation
        temperature = fit_temperature(left_out[judged], truth[judged])
        raw = {"validation": (left_out[behind:], truth[behind:])} | raw
    predictions = {
        name: SplitPredictions(softmax(said, temperature), truth) for name, (said, truth) in raw.items()
    }
    metrics = {
        f"{split}_{name}": value
        for split, said in predictions.items()
        for name, value in evaluate(said.probabilities, said.truth).items()
    }
    last = list(predictions)[-1]
    return Measured(temperature, metrics | _certainty(last, predictions[last]), predictions)


def _certainty(split: str, said: SplitPredictions) -> dict[str, float]:
    """Ends of the metrics' 95 % intervals, and what a perfectly calibrated model could show."""
    found = {f"{split}_calibration_limit": calibration_limit(said.probabilities)}
    for name, (low, high) in metric_intervals(said.probabilities, said.truth).items():
        found |= {f"{split}_{name}_low": low, f"{split}_{name}_high": high}
    return found


def fields_of(base: BaseModel, request: FitRequest, epoch: int) -> dict[str, Any]:
    """The fields of an adapter's manifest that its request decides."""
    splits, parent = request.splits, request.parent()
    return {
        "task": request.classifier.task,
        "labels": splits.train.names,
        "base_model": base.name,
        "base_revision": base.revision,
        "base_sha256": base.weights_sha256,
        "pooling": request.settings.pooling or "first",
        "parent": named_parent(parent) if parent else None,
        "training": {
            "recipe": request.settings.recipe(),
            "epoch_kept": epoch,
            "rows": {"train": len(splits.train), "validation": len(splits.validation)},
            "data_sha256": {name: rows.sha256 for name, rows in splits.by_name().items()},
        },
    }


def saved_dtype(settings: TrainerSettings) -> Any:
    """bf16 for LoRA's matrices; DoRA's magnitudes and IA³'s factors are near 1, where bf16 is too coarse."""
    import torch

    is_coarse = settings.peft_method in ("dora", "ia3")
    return torch.bfloat16 if settings.save_precision == "bf16" and not is_coarse else None


def probes_of(saved: Classifier, temperature: float) -> list[Probe]:
    """What a classifier in fp32 says of the texts that it will be asked before it serves."""
    probed = softmax(saved.logits(saved.encode(PROBE_TEXTS)), temperature).round(6).tolist()
    return [Probe(text=text, probabilities=tuple(row)) for text, row in zip(PROBE_TEXTS, probed, strict=True)]


def full_model_files(model: Any, names: Sequence[str], precision: str) -> dict[str, bytes]:
    """The files of ``save_pretrained``, the classes named in the configuration."""
    import torch

    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: index for index, name in enumerate(names)}
    # Whatever the base was for: each text has one class here, and no class is a quantity.
    model.config.problem_type = "single_label_classification"
    if precision == "bf16":
        model = model.to(torch.bfloat16)
    with tempfile.TemporaryDirectory() as scratch, quiet_transformers():
        # One file, whatever its size: the names of the parts would depend on it.
        model.save_pretrained(scratch, max_shard_size="1TB")
        return {file.name: file.read_bytes() for file in sorted(Path(scratch).iterdir())}


def card(fields: Mapping[str, Any], note: str = "") -> str:
    """Markdown that describes an adapter; ``{version}`` is filled in when its hash is known."""
    metrics = "\n".join(f"| {name} | {value:.4f} |" for name, value in fields["metrics"].items())
    recipe = "\n".join(f"| {name} | {value} |" for name, value in fields["training"]["recipe"].items())
    rows = ", ".join(f"{count:,} {split}" for split, count in fields["training"]["rows"].items())
    made = fields["training"]["recipe"].get("kind", "lora")
    how = "only its head was fitted" if made == "head" else "LoRA matrices and head were fitted"
    return f"""# {{version}}

An adapter for the task `{fields["task"]}`: {", ".join(f"`{label}`" for label in fields["labels"])}; {how}.

- Base model: `{fields["base_model"]}` (weights sha256 `{fields["base_sha256"]}`)
- Rows: {rows}{_epoch(fields["training"]["epoch_kept"])}
{_pooling(fields)}- Temperature: {fields["temperature"]:.4f}, fitted on the validation rows

{note or "Made by `reviewloop train`."}

| metric | value |
|---|---|
{metrics}

| recipe | |
|---|---|
{recipe}
"""


def _epoch(kept: int) -> str:
    return f"; epoch {kept} kept" if kept else ""


def _pooling(fields: Mapping[str, Any]) -> str:
    """What a program has to know that loads the files with peft alone; empty where it is nothing."""
    if fields.get("pooling", "first") == "first":
        return ""
    return (
        "- Pooling: mean. The head is one linear layer, `classifier`, on the mean over all tokens of the "
        "last layer's states. A program that loads these files with peft alone has to compute "
        "`classifier(mean)` itself: the head that transformers puts on it reads one token, and "
        "would give wrong answers or refuse the files.\n"
    )
