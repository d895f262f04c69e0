"""From fitted weights to an adapter: measured as it was saved, loaded again as a consumer loads it."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from classifier.adapter import AdapterManifest, Probe, read_manifest
from classifier.adapter_saving import peft_files
from classifier.adapter_store import assemble, write_files
from classifier.calibration import Floats, fit_temperature, softmax
from classifier.classifier import Classifier, load
from classifier.probes import PROBE_TEXTS
from trainer.card import card
from trainer.metrics import evaluate

if TYPE_CHECKING:
    from classifier.base_model import BaseModel
    from trainer.dataset import Dataset
    from trainer.train import Run


def finish(
    model: Any, base: "BaseModel", run: "Run", epoch: int, output_root: Path
) -> tuple[Path, AdapterManifest]:
    """Write the adapter of a fitted model, with temperature, metrics and probes measured on the saved form.

    Args:
        model: The fitted peft model.
        base: Its base.
        run: What was asked for.
        epoch: Which epoch was kept.
        output_root: Where the adapter's directory is made.

    Raises:
        AdapterError: If the adapter cannot be written.
    """
    import torch

    dtype = torch.bfloat16 if run.settings.save_precision == "bf16" else None
    files = peft_files(model, base.name, dtype)
    fields = _fields(base, run, epoch)
    with tempfile.TemporaryDirectory() as scratch:
        # fp32 is the reference that engines are compared with, whatever they compute in.
        exact = run.classifier.model_copy(update={"precision": "fp32"})
        saved = load(base.name, write_files(assemble(files, fields), Path(scratch)), exact)
        fields |= _measured(saved, run)
    directory = write_files(assemble(files, fields, card(fields, run.note)), output_root)
    return directory, read_manifest(directory)


def _fields(base: "BaseModel", run: "Run", epoch: int) -> dict[str, Any]:
    splits = run.splits
    return {
        "task": run.classifier.task,
        "labels": splits.train.names,
        "base_model": base.name,
        "base_revision": base.revision,
        "base_sha256": base.weights_sha256,
        "training": {
            "recipe": run.settings.model_dump(mode="json"),
            "epoch_kept": epoch,
            "rows": {"train": len(splits.train), "validation": len(splits.validation)},
            "data_sha256": {"train": splits.train.sha256, "validation": splits.validation.sha256},
        },
    }


def _measured(saved: Classifier, run: "Run") -> dict[str, Any]:
    """Temperature, metrics and probes of the adapter as it was saved."""
    logits, truth = _answers(saved, run.splits.validation)
    temperature = fit_temperature(logits, truth)
    metrics = _named("validation", softmax(logits, temperature), truth)
    if run.splits.test is not None:
        logits, truth = _answers(saved, run.splits.test)
        metrics |= _named("test", softmax(logits, temperature), truth)
    probed = softmax(saved.logits(saved.encode(PROBE_TEXTS)), temperature).round(6).tolist()
    probes = [
        Probe(text=text, probabilities=tuple(row)) for text, row in zip(PROBE_TEXTS, probed, strict=True)
    ]
    return {"temperature": temperature, "metrics": metrics, "probes": probes}


def _answers(saved: Classifier, rows: "Dataset") -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    return saved.logits(saved.encode(rows.texts)), np.array(rows.labels, np.int64)


def _named(split: str, probabilities: Floats, truth: npt.NDArray[np.int64]) -> dict[str, float]:
    return {f"{split}_{name}": value for name, value in evaluate(probabilities, truth).items()}
