"""``reviewloop compare``: LoRA, full fine-tuning and a linear model on frozen embeddings on the same rows."""

import json
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import typer

from reviewloop.cli.output import print_table
from reviewloop.cli.train import Base, Labels, read_splits, settings_for
from reviewloop.terminal import say
from reviews.errors import ReviewLoopError
from trainer.fitting.baseline import embedding_baseline
from trainer.fitting.fit_data import FitRequest
from trainer.fitting.outputs import write_whole
from trainer.fitting.sweep import TrainProcesses, read_record

_COLUMNS = (
    "test accuracy",
    "test macro-F1",
    "calibration error",
    "fitting, s",
    "peak memory, MiB",
    "saved, MB",
)
_BASELINE = "logistic regression on frozen embeddings"


def compare(
    further: Annotated[
        list[str] | None, typer.Argument(help="After --: options of 'train' for LoRA and full fine-tuning.")
    ] = None,
    *,
    train_file: Annotated[Path, typer.Option(help="Texts and labels: CSV, JSON or Parquet (docs/files.md).")],
    val_file: Annotated[Path, typer.Option(help="To choose epochs, strength and temperature by.")],
    test_file: Annotated[Path, typer.Option(help="What is compared.")],
    base_model: Base = None,
    labels: Labels = None,
    full_learning_rate: Annotated[
        float, typer.Option(help="Of full fine-tuning; LoRA's is too high.")
    ] = 5e-5,
    output_dir: Annotated[Path, typer.Option(help="A directory for each way, and the table.")] = Path(
        "comparison"
    ),
) -> None:
    """Fit an adapter, the whole model and a linear model on the same rows.

    Each is fitted in a process of its own; finished ones are not done again.
    """
    # As Ctrl-C, so that the run's child process ends too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settings = settings_for({"base_model": base_model}, {})
    files: dict[str, Path | None] = {"train": train_file, "validation": val_file, "test": test_file}
    request = FitRequest(
        read_splits(files, settings.classifier.task, labels), settings.classifier, settings.trainer
    )
    options = ["--train-file", str(train_file), "--val-file", str(val_file), "--test-file", str(test_file)]
    options += ["--base-model", base_model] if base_model else []
    options += ["--labels", labels] if labels else []
    options += further or []
    full = ["--peft-method", "none", "--learning-rate", str(full_learning_rate)]
    method = settings.trainer.peft_method if settings.trainer.peft_method != "none" else "lora"
    records = {
        method: _trained(method, [*options, "--peft-method", method], output_dir),
        "full fine-tuning": _trained("full", [*options, *full], output_dir),
        _BASELINE: _baseline(request, output_dir / "baseline.json"),
    }
    rows = {name: _row(record) for name, record in records.items()}
    _print(rows)
    write_whole(output_dir / "comparison.json", (json.dumps(rows, indent=2) + "\n").encode())
    say(f"{output_dir / 'comparison.json'}")


def _trained(name: str, options: list[str], root: Path) -> dict[str, Any]:
    say(f"{name} …", err=True)
    error = TrainProcesses(options).run([], root / name)
    if error:
        raise ReviewLoopError(f"{name}: {error}")
    return read_record(root / name)


def _baseline(request: FitRequest, file: Path) -> dict[str, Any]:
    """The baseline's record: of this data and base if it is there, else made in a process of its own."""
    say(f"{_BASELINE} …", err=True)
    key = [request.classifier.base_model, request.splits.train.sha256, request.splits.validation.sha256]
    key.append(request.splits.test.sha256 if request.splits.test is not None else "")
    if file.is_file() and (kept := json.loads(file.read_bytes())).get("of") == key:
        return dict(kept)
    # Its own process, so that its peak memory is its own; spawned, because PyTorch has threads.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            found = pool.submit(embedding_baseline, request).result()
        except BrokenProcessPool as err:
            raise ReviewLoopError(f"{_BASELINE}: its process died, perhaps for lack of memory.") from err
    write_whole(file, (json.dumps({"of": key, **found}, indent=2) + "\n").encode())
    return found


def _row(record: dict[str, Any]) -> dict[str, float]:
    metrics, took = record["metrics"], record["resources"]
    values = (
        metrics["test_accuracy"], metrics["test_macro_f1"], metrics["test_calibration_error"],
        took["fit_seconds"], took["peak_memory_bytes"] / 2**20, took["saved_bytes"] / 1e6,
    )  # fmt: skip
    return dict(zip(_COLUMNS, values, strict=True))


def _print(rows: dict[str, dict[str, float]]) -> None:
    shown = (
        (name, *(f"{value:.4f}" if value < 1 else f"{value:,.1f}" for value in values.values()))
        for name, values in rows.items()
    )
    print_table(("", *_COLUMNS), shown, err=True)
