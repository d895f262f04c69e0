"""``run.json``: what a run was, so that it can be repeated, and what came out."""

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.dataset import class_counts
from trainer.metrics import confusion

if TYPE_CHECKING:
    from trainer.dataset import Dataset
    from trainer.train import Outcome, Run

_LIBRARIES = ("reviewloop", "torch", "transformers", "peft", "tokenizers", "safetensors", "numpy")


def record(
    run: "Run",
    outcome: "Outcome",
    files: Mapping[str, Path],
    command: Sequence[str],
    adapter: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything about a finished run, ready for JSON.

    Args:
        run: What was asked for.
        outcome: What came out.
        files: Where the splits were read from.
        command: The command line.
        adapter: Version, content hash and place of what was written.
    """
    measured, base = outcome.measured, outcome.base
    return {
        "command": list(command),
        "adapter": dict(adapter),
        "task": run.classifier.task,
        "labels": list(run.splits.train.names),
        "base": {"name": base.name, "revision": base.revision, "weights_sha256": base.weights_sha256},
        "data": {name: _data(rows, files.get(name)) for name, rows in _splits(run).items()},
        "recipe": run.settings.recipe(),
        "classifier": run.classifier.model_dump(mode="json"),
        "fingerprint": outcome.fingerprint,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}},
        "machine": {"system": platform.platform(), "device": outcome.resources.device},
        "epochs": outcome.position.history,
        "epoch_kept": outcome.position.best_epoch,
        "temperature": measured.temperature,
        "metrics": measured.metrics,
        "confusion": {
            split: confusion(
                said.truth, said.probabilities.argmax(axis=1), said.probabilities.shape[1]
            ).tolist()
            for split, said in measured.answers.items()
        },
        "resources": outcome.resources.as_dict(),
    }


def as_json(content: Mapping[str, Any]) -> bytes:
    """The record as it is written."""
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def _splits(run: "Run") -> dict[str, "Dataset"]:
    splits = {"train": run.splits.train, "validation": run.splits.validation}
    return splits | ({"test": run.splits.test} if run.splits.test is not None else {})


def _data(rows: "Dataset", file: Path | None) -> dict[str, Any]:
    return {
        "file": str(file) if file is not None else None,
        "sha256": rows.sha256,
        "rows": len(rows),
        "classes": class_counts(rows),
    }
