"""``reviewloop sweep``: trains a grid of recipes, and promotes the best on request."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from pages.charts import ranking
from pages.picture import Picture
from reviewloop.cli.adapters import add
from reviewloop.cli.output import print_table
from reviewloop.terminal import say
from reviews.csv_output import to_csv
from reviews.errors import ReviewLoopError, WrongUse
from trainer.fitting.outputs import place, write_whole
from trainer.fitting.sweep import Result, TrainProcesses, best_first, grid, run_grid


def sweep(
    further: Annotated[
        list[str] | None, typer.Argument(help="After --: options of 'train', the same for every point.")
    ] = None,
    *,
    train_file: Annotated[Path, typer.Option(help="Texts and labels: CSV, JSON or Parquet (docs/files.md).")],
    val_file: Annotated[Path, typer.Option(help="What the recipes are compared by.")],
    lora_r: Annotated[str, typer.Option(help="Ranks, comma-separated.")] = "4,8,16",
    lora_alpha: Annotated[str, typer.Option(help="Alphas, comma-separated; empty: as configured.")] = "16,32",
    learning_rate: Annotated[str, typer.Option(help="Rates, comma-separated.")] = "3e-4,1e-3",
    batch_size: Annotated[str, typer.Option(help="Batch sizes, comma-separated.")] = "16",
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time; they share the CPU's cores.")] = 1,
    output_dir: Annotated[Path, typer.Option(help="A directory for each point, table and plot.")] = Path(
        "sweep"
    ),
    adapter_dir: Annotated[Path | None, typer.Option(help="Gets the best adapter.")] = None,
    promote: Annotated[
        bool, typer.Option("--promote", help="Add the best adapter to the database and activate it.")
    ] = False,
) -> None:
    """Fit every combination of options.

    What an earlier start has finished is kept; what it began is continued.
    """
    values = {"r": lora_r, "alpha": lora_alpha, "lr": learning_rate, "batch": batch_size}
    points = grid({name: _numbers(name, value) for name, value in values.items()})
    if further and {"--output-dir", "--output_dir", "--adapter-dir", "--adapter_dir"} & set(further):
        raise WrongUse("Every point has a directory of its own; leave those options out after --.")
    options = ["--train-file", str(train_file), "--val-file", str(val_file), *(further or ())]
    _check_files(train_file, val_file)
    threads = max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 else None
    results = []
    _let_sigterm_interrupt()
    for result in run_grid(points, output_dir, jobs, TrainProcesses(options, threads)):
        results.append(result)
        accuracy = f"validation accuracy {result.metric('accuracy'):.4f}" if result.record else result.note
        say(f"{len(results)} of {len(points)}: {result.point.name}: {accuracy}", err=True)
    ranked = best_first(results)
    _print(ranked)
    write_whole(output_dir / "sweep.csv", to_csv(_columns(ranked), _rows(ranked)).encode())
    done = [result for result in ranked if result.record]
    if not done:
        raise ReviewLoopError(f"No point was fitted; the first said: {ranked[0].note}")
    write_whole(output_dir / "sweep.png", _picture(done).png())
    _take_best(done[0], output_dir / done[0].point.name / "adapter", adapter_dir, promote=promote)
    if len(done) < len(ranked):
        raise ReviewLoopError(f"{len(ranked) - len(done)} of {len(ranked)} points failed; see the notes.")


def _take_best(best: Result, found: Path, adapter_dir: Path | None, *, promote: bool) -> None:
    if adapter_dir is not None:
        place({file.name: file.read_bytes() for file in found.iterdir()}, adapter_dir)
        say(f"{adapter_dir}")
    else:
        say(f"{found}")
    if promote:
        add(found, activate=True, reason=f"best of a sweep: {best.point.name}")


def _let_sigterm_interrupt() -> None:
    """End as Ctrl-C does, so that the child processes end too."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def _check_files(*files: Path) -> None:
    for file in files:
        if not file.is_file():
            raise WrongUse(f"There is no file {file}.")


def _numbers(name: str, values: str) -> list[str]:
    """The values of a dimension as they were written, each a positive number."""
    found = [value.strip() for value in values.split(",") if value.strip()]
    for value in found:
        try:
            number = float(value) if name in ("alpha", "lr") else int(value)
        except ValueError:
            number = 0
        if not 0 < number < float("inf"):
            raise WrongUse(f"{value!r} is not a value for {name}: give positive numbers, comma-separated.")
    return found


def _rows(ranked: Sequence[Result]) -> list[list[str]]:
    rows = []
    for number, result in enumerate(ranked):
        notes = result.note or ("best" if number == 0 else "")
        if result.record:
            metrics, seconds = result.record["metrics"], result.record["resources"]["fit_seconds"]
            measured = [f"{metrics['validation_accuracy']:.4f}", f"{metrics['validation_macro_f1']:.4f}"]
            measured.append(f"{seconds:.0f}")
        else:
            measured = ["", "", ""]
        rows.append([*(value for _, value in result.point.values), *measured, notes])
    return rows


def _columns(ranked: Sequence[Result]) -> list[str]:
    dimensions = [name for name, _ in ranked[0].point.values]
    return [*dimensions, "validation accuracy", "macro-F1", "seconds", "notes"]


def _picture(done: Sequence[Result]) -> Picture:
    ends = [[result.metric(f"macro_f1_{end}") for end in ("low", "high")] for result in done]
    names, scores = [result.point.name for result in done], np.array([result.score for result in done])
    return ranking(names, scores, np.array(ends), "validation macro-F1, 95 % interval")


def _print(ranked: Sequence[Result]) -> None:
    print_table(_columns(ranked), _rows(ranked), err=True)
