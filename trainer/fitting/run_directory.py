"""One run in a directory of its own: resumed after a crash, and recorded in ``run.json`` when done."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from reviews.errors import WrongUse
from trainer.data.dataset import class_counts
from trainer.errors import TrainingStopped
from trainer.fitting.fit import fit
from trainer.fitting.fit_data import FitRequest, Outcome, Report
from trainer.fitting.outputs import (
    Places,
    finished,
    place,
    prepare,
    tokeniser_files,
    write_whole,
)
from trainer.metrics import confusion
from trainer.report import write_report

_LIBRARIES = ("reviewloop", "torch", "transformers", "peft", "tokenizers", "safetensors", "numpy")


@dataclass(frozen=True, slots=True)
class DirectoryRequest:
    """A fit in a directory of its own, and what surrounds it.

    Attributes:
        fit: What is to be fitted.
        places: Where it writes.
        files: Where the splits were read from.
        command: The command line, for the record.
        resume: Continue an unfinished run.
        overwrite: Throw an unfinished run away.
    """

    fit: FitRequest
    places: Places
    files: Mapping[str, Path]
    command: Sequence[str] = ()
    resume: bool = False
    overwrite: bool = False


def run_in_directory(request: DirectoryRequest, report: Report) -> dict[str, Any] | None:
    """Fit, write the adapter, then the reports, then the record; the record of the finished run.

    Killed at any moment, it continues from its checkpoint and ends with the same adapter. A run that is
    resumed after its end is only read.

    Returns:
        See :func:`trainer.fitting.run_directory.record`; None in every process but the first.

    Raises:
        WrongUse: If files are in the way, or the checkpoint or the record belong to another run.
        TrainingStopped: If the fitting diverges or the disk refuses.
        ModelError: If the base cannot be had.
        AdapterError: If the adapter cannot be written or does not load again.
    """
    request.places.check()
    lock = _locked(request.places.output)
    try:
        return _run(request, report)
    finally:
        lock.release()


def _locked(output: Path) -> FileLock:
    """The directory for this run alone; the processes of a group are one run."""
    lock = FileLock(output / f".lock-{os.environ.get('RANK', '0')}", blocking=False)
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as err:
        raise WrongUse(f"Another process is at work in {output}; wait, or name another directory.") from err
    except OSError as err:
        raise TrainingStopped(f"{output} cannot be written: {err.strerror or err}.") from err
    return lock


def _run(request: DirectoryRequest, report: Report) -> dict[str, Any] | None:
    places = request.places
    prepare(places, resume=request.resume, overwrite=request.overwrite)
    if request.resume and not places.checkpoint.is_file() and (done := finished(places)) is not None:
        _require_same(done, request.fit, places)
        return done if os.environ.get("RANK", "0") == "0" else None
    outcome = fit(request.fit, report, places.checkpoint)
    if outcome is None:
        return None
    files = {**tokeniser_files(outcome.base), **outcome.files}
    place(files, places.adapter)
    manifest = outcome.manifest  # a full model has none
    adapter = {
        "version": manifest.version if manifest else None,
        "content_hash": manifest.content_hash if manifest else None,
        "directory": str(places.adapter),
    }
    written = record(request.fit, outcome, request.files, request.command, adapter)
    write_report(places.output, written, outcome.measured.predictions)
    write_whole(places.record, (json.dumps(written, indent=2, ensure_ascii=False) + "\n").encode())
    places.checkpoint.unlink(missing_ok=True)
    return written


def _require_same(done: Mapping[str, Any], request: FitRequest, places: Places) -> None:
    """Refuse to take another recipe's result for this one's."""
    same = done["recipe"] == request.settings.recipe() and all(
        done["data"][name]["sha256"] == rows.sha256
        for name, rows in (("train", request.splits.train), ("validation", request.splits.validation))
    )
    if not same or done["base"]["name"] != request.classifier.base_model:
        raise WrongUse(
            f"{places.output} holds a finished run with another recipe, other data or another base; "
            "leave --resume out to replace it, or name another --output-dir."
        )


def record(
    request: FitRequest,
    outcome: Outcome,
    files: Mapping[str, Path],
    command: Sequence[str],
    adapter: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything about a finished run, ready for JSON."""
    measured, base = outcome.measured, outcome.base
    return {
        "command": list(command),
        "adapter": dict(adapter),
        "task": request.classifier.task,
        "labels": list(request.splits.train.names),
        "base": {"name": base.name, "revision": base.revision, "weights_sha256": base.weights_sha256},
        "data": {
            name: {
                "file": str(files[name]) if name in files else None,
                "sha256": rows.sha256,
                "rows": len(rows),
                "classes": class_counts(rows),
            }
            for name, rows in request.splits.by_name().items()
        },
        "recipe": request.settings.recipe(),
        "classifier": request.classifier.model_dump(mode="json"),
        "fingerprint": outcome.fingerprint,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}},
        "machine": {"system": platform.platform(), "device": outcome.resources.device},
        "epochs": outcome.position.history,
        "epoch_kept": outcome.position.kept_epoch,
        "temperature": measured.temperature,
        "metrics": measured.metrics,
        "confusion": {
            split: confusion(
                said.truth, said.probabilities.argmax(axis=1), said.probabilities.shape[1]
            ).tolist()
            for split, said in measured.predictions.items()
        },
        "resources": asdict(outcome.resources),
    }
