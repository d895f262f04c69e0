"""``reviewloop train``: labelled texts in, an adapter out."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from trainer.train import Run


def train(
    *,
    train_file: Annotated[Path, typer.Option(help="CSV with the columns text and label (.gz too).")],
    val_file: Annotated[Path, typer.Option(help="CSV to choose the epoch and the temperature by.")],
    test_file: Annotated[Path | None, typer.Option(help="CSV to report on; nothing is chosen by it.")] = None,
    output_dir: Annotated[Path, typer.Option(help="Where the adapter's directory is made.")] = Path(
        "adapters"
    ),
    base_model: Annotated[
        str | None, typer.Option(help="Hugging Face id, directory or package:NAME/PATH.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Names of the classes 0, 1, 2 …, comma-separated.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="The task that the adapter answers.")] = None,
    text_column: Annotated[str, typer.Option(help="Column with the texts.")] = "text",
    label_column: Annotated[str, typer.Option(help="Column with the labels.")] = "label",
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the rows.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Rows per step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    lora_r: Annotated[int | None, typer.Option(min=1, help="Rank of the LoRA matrices.")] = None,
    lora_alpha: Annotated[float | None, typer.Option(help="LoRA's updates are scaled by alpha / r.")] = None,
    lora_dropout: Annotated[float | None, typer.Option(min=0, max=0.99, help="Dropout before LoRA.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything random.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, mps, cuda or cuda:N.")] = None,
    note: Annotated[str, typer.Option(help="A paragraph for the adapter's card.")] = "",
) -> None:
    """Fit an adapter on labelled texts; it lies, with its card, in a directory named by its content."""
    from reviewloop.settings import load_settings
    from trainer.dataset import read_dataset
    from trainer.train import Run, Splits

    recipe = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "lora_r": lora_r,
        "lora_alpha": lora_alpha,
        "lora_dropout": lora_dropout,
        "seed": seed,
    }
    where = {"base_model": base_model, "task": task, "device": device}
    settings = load_settings({"classifier": where, "trainer": recipe})
    names = [name.strip() for name in labels.split(",")] if labels else None
    read = partial(read_dataset, text_column=text_column, label_column=label_column)
    rows = read(train_file, names=names, task=settings.classifier.task)
    validation = read(val_file, names=rows.names)
    test = read(test_file, names=rows.names) if test_file else None
    _fit(Run(Splits(rows, validation, test), settings.classifier, settings.trainer, note), output_dir)


def _fit(run: "Run", output_dir: Path) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from trainer.fit import Progress as Step
    from trainer.train import train as fit_adapter

    console = Console(stderr=True)
    columns = (
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    details = TextColumn("loss {task.fields[loss]:.3f}  rate {task.fields[rate]:.1e}")
    with Progress(*columns, details, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("fit", total=None, epoch=1, loss=float("nan"), rate=0.0)

        def report(step: Step) -> None:
            progress.update(
                bar,
                completed=step.step,
                total=step.steps,
                epoch=step.epoch,
                loss=step.loss,
                rate=step.learning_rate,
            )
            if step.validation is not None:
                shown = "  ".join(f"{name} {value:.4f}" for name, value in step.validation.items())
                console.print(f"epoch {step.epoch}: loss {step.loss:.3f}  {shown}", highlight=False)

        console.print(f"Fitting on {len(run.splits.train):,} rows; loading {run.classifier.base_model} …")
        trained = fit_adapter(run, output_dir, report)
    for name, value in trained.manifest.metrics.items():
        console.print(f"{name:>30} {value:.4f}", highlight=False)
    console.print(f"{trained.trainable_parameters:,} parameters fitted; adapter {trained.manifest.version}:")
    typer.echo(trained.directory)
