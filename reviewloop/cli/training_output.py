"""Terminal output of a training run: device, progress, results."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich import progress
from rich.console import Console

from reviewloop.cli.output import print_table
from reviewloop.terminal import say
from reviews.sanitise import sanitise
from trainer.data.dataset import class_counts
from trainer.fitting.fit_data import FitProgress, FitRequest, Report, describe_device
from trainer.fitting.outputs import Places
from trainer.nightly.progress import RunProgress
from trainer.report import PAGE, metric_rows

_LINE_EVERY_SECONDS = 10.0
_LONGEST_RECIPE = 16  # characters, so that a line of progress fits into 80 columns


def print_start(request: FitRequest) -> None:
    """Device, GPU memory, and how many rows of which classes."""
    if os.environ.get("RANK", "0") != "0":
        return
    _say(f"Device      {describe_device(request.classifier)}")
    _say(f"Base        {request.classifier.base_model}, {request.settings.peft_method}")
    for name, rows in request.splits.by_name().items():
        counts = ", ".join(f"{count:,} {label}" for label, count in class_counts(rows).items())
        _say(f"{name:<11} {len(rows):,} rows: {counts}")


@contextmanager
def show_steps() -> Iterator[Report]:
    """A bar with loss and learning rate on a terminal, a line now and then elsewhere; a line per epoch."""
    if sys.stderr.isatty():
        with _bar() as report:
            yield report
    else:
        yield _ProgressLines()


def print_summary(done: Mapping[str, Any], places: Places) -> None:
    """Metrics with their intervals, the confusion matrix, what it took, and where everything is."""
    split = "test" if "test" in done["confusion"] else "validation"
    metrics = (
        (name, f"{value:.4f}", interval) for name, value, interval in metric_rows(done["metrics"], split)
    )
    title = f"On the {split} rows (epoch {done['epoch_kept']} kept)"
    print_table(("", "value", "95 %"), metrics, title=title, err=True)
    confusion = ((label, *row) for label, row in zip(done["labels"], done["confusion"][split], strict=True))
    print_table(("true \\ predicted", *done["labels"]), confusion, title="Confusion matrix", err=True)
    for name, what in _took(done["resources"]):
        _say(f"{name:<21} {what}")
    _say(f"{'temperature':<21} {done['temperature']:.3f}")
    _say(f"{'record and reports':<21} {places.record}, {places.output / PAGE}")
    version = done["adapter"]["version"]
    _say(f"{'adapter ' + version if version else 'full model'}:")
    say(f"{done['adapter']['directory']}")


def _took(resources: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    fitted, of = resources["trainable_parameters"], resources["parameters"]
    yield "device", resources["device"]
    yield "trainable parameters", f"{fitted:,} of {of:,} ({fitted / of:.2%})"
    yield "time", f"{resources['seconds']:.1f} s, fitting {resources['fit_seconds']:.1f} s"
    yield "peak memory", f"{resources['peak_memory_bytes'] / 2**20:,.0f} MiB"
    if resources["peak_gpu_bytes"] is not None:
        yield "peak GPU memory", f"{resources['peak_gpu_bytes'] / 2**20:,.0f} MiB"
    saved, base = resources["saved_bytes"], resources["base_bytes"]
    yield (
        "saved",
        f"{saved / 1e6:,.2f} MB; the base has {base / 1e6:,.1f} MB, {base / saved:,.0f} times as much",
    )


def _say(line: str) -> None:
    say(f"{line}", err=True)


def _epoch_line(step: FitProgress) -> str:
    shown = "  ".join(f"{name} {value:.4f}" for name, value in (step.validation or {}).items())
    return f"epoch {step.epoch}: loss {step.loss:.4f}  {shown}"


class _ProgressLines:
    """A line every few seconds, and one per epoch."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _LINE_EVERY_SECONDS

    def __call__(self, step: FitProgress) -> None:
        if step.validation is not None:
            _say(_epoch_line(step))
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + _LINE_EVERY_SECONDS
            _say(
                f"epoch {step.epoch}, step {step.step} of {step.steps}: loss {step.loss:.4f}  "
                f"rate {step.learning_rate:.2e}"
            )


@contextmanager
def show_fits() -> Iterator[Callable[[RunProgress], None]]:
    """A bar for the fits of a run, at most 80 columns wide, on a terminal; elsewhere the log tells."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(bar_width=16),
        progress.TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        progress.TextColumn("{task.fields[seconds]:,.0f} of {task.fields[budget]:,.0f} s"),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        bar = shown.add_task("", total=1, visible=False, seconds=0.0, budget=0.0)

        def tell(at: RunProgress) -> None:
            name = at.recipe if len(at.recipe) <= _LONGEST_RECIPE else f"{at.recipe[: _LONGEST_RECIPE - 1]}…"
            shown.update(
                bar, description=sanitise(f"{name} ({at.number} of {at.of})"), completed=at.step,
                total=at.steps, visible=True, seconds=at.seconds, budget=at.budget_seconds,
            )  # fmt: skip

        yield tell


@contextmanager
def _bar() -> Iterator[Report]:
    columns = (
        progress.TextColumn("epoch {task.fields[epoch]}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("loss {task.fields[loss]:.3f}  rate {task.fields[rate]:.1e}"),
    )
    console = Console(stderr=True)
    with progress.Progress(*columns, console=console) as shown:
        bar = shown.add_task("fit", total=None, epoch=1, loss=float("nan"), rate=0.0)

        def report(step: FitProgress) -> None:
            shown.update(
                bar, completed=step.step, total=step.steps, epoch=step.epoch, loss=step.loss,
                rate=step.learning_rate,
            )  # fmt: skip
            if step.validation is not None:
                console.print(_epoch_line(step), highlight=False)

        yield report
