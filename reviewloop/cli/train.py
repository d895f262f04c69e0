"""``reviewloop train``: labelled texts in, an adapter out."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reviewloop.cli.arguments import DelimiterOption, EncodingOption, guessed, to_form
from reviewloop.terminal import say
from reviews.errors import WrongUse
from trainer.data.table_source import AS_FOUND, Form

if TYPE_CHECKING:
    from reviewloop.settings import Settings
    from trainer.data.dataset import Dataset
    from trainer.fitting.run import Splits


class Method(StrEnum):
    """How the base model is adapted."""

    lora = "lora"
    rslora = "rslora"
    dora = "dora"
    loraplus = "lora+"
    ia3 = "ia3"
    none = "none"


class ClassWeights(StrEnum):
    """What a row of each class weighs."""

    none = "none"
    balanced = "balanced"


class SavePrecision(StrEnum):
    """Number format of what is saved."""

    bf16 = "bf16"
    fp32 = "fp32"


_TASK_TYPES = ("classification", "SEQ_CLS")
_DATA, _RECIPE, _OUTPUT = "Data", "Recipe", "Output"

TrainFile = Annotated[
    Path,
    typer.Option(help="Texts and labels: CSV, JSON or Parquet (docs/files.md).", rich_help_panel=_DATA),
]
ValFile = Annotated[
    Path, typer.Option(help="To choose the epoch and the temperature by.", rich_help_panel=_DATA)
]
TestFile = Annotated[
    Path | None, typer.Option(help="To report on; nothing is chosen by it.", rich_help_panel=_DATA)
]
Labels = Annotated[
    str | None,
    typer.Option(help="Names of the classes 0, 1, 2 …, comma-separated.", rich_help_panel=_DATA),
]
NumLabels = Annotated[
    int | None, typer.Option(min=2, help="How many classes there have to be.", rich_help_panel=_DATA)
]
TextColumn = Annotated[str, typer.Option(help="Column with the texts.", rich_help_panel=_DATA)]
LabelColumn = Annotated[str, typer.Option(help="Column with the labels.", rich_help_panel=_DATA)]
Base = Annotated[
    str | None,
    typer.Option("--base-model", "--model-name", help="Hugging Face id, directory or package:NAME/PATH."),
]


def train(
    *,
    train_file: TrainFile,
    val_file: ValFile,
    test_file: TestFile = None,
    base_model: Base = None,
    labels: Labels = None,
    num_labels: NumLabels = None,
    text_column: TextColumn = "text",
    label_column: LabelColumn = "label",
    encoding: EncodingOption = None,
    delimiter: DelimiterOption = None,
    output_dir: Annotated[
        Path, typer.Option(help="The run: checkpoint, record, reports.", rich_help_panel=_OUTPUT)
    ] = Path("outputs"),
    adapter_dir: Annotated[
        Path | None,
        typer.Option(
            help="The adapter and its tokeniser; unset, OUTPUT_DIR/adapter.", rich_help_panel=_OUTPUT
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an unfinished run.", rich_help_panel=_OUTPUT)
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Throw an unfinished run away.", rich_help_panel=_OUTPUT)
    ] = False,
    note: Annotated[
        str, typer.Option(help="A paragraph for the adapter's card.", rich_help_panel=_OUTPUT)
    ] = "",
    task: Annotated[str | None, typer.Option(help="The task that the adapter answers.")] = None,
    task_type: Annotated[str, typer.Option(help="classification: reviews have no other.")] = _TASK_TYPES[0],
    device: Annotated[str | None, typer.Option(help="auto, cpu, mps, cuda or cuda:N.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16 or fp16.")] = None,
    peft_config: Annotated[
        Path | None,
        typer.Option(
            help="Recipe in peft's words; unset, peft_config.json of this folder, if there is one.",
            rich_help_panel=_RECIPE,
        ),
    ] = None,
    peft_method: Annotated[
        Method | None, typer.Option(help="none: every weight is fitted.", rich_help_panel=_RECIPE)
    ] = None,
    lora_r: Annotated[
        int | None, typer.Option(min=1, help="Rank of the LoRA matrices.", rich_help_panel=_RECIPE)
    ] = None,
    lora_alpha: Annotated[
        float | None, typer.Option(help="LoRA's updates are scaled by alpha / r.", rich_help_panel=_RECIPE)
    ] = None,
    lora_dropout: Annotated[
        float | None, typer.Option(min=0, max=0.99, help="Dropout before LoRA.", rich_help_panel=_RECIPE)
    ] = None,
    target_modules: Annotated[
        str | None,
        typer.Option(
            help="Layers to adapt, comma-separated, named as in RoBERTa or as in the base.",
            rich_help_panel=_RECIPE,
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the rows.", rich_help_panel=_RECIPE)
    ] = None,
    patience_epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Stop after so many without a gain.", rich_help_panel=_RECIPE),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Rows in one pass.", rich_help_panel=_RECIPE)
    ] = None,
    accumulation_steps: Annotated[
        int | None, typer.Option(min=1, help="Passes per optimiser step.", rich_help_panel=_RECIPE)
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak rate.", rich_help_panel=_RECIPE)] = None,
    warmup_fraction: Annotated[
        float | None, typer.Option(help="Share of the steps in which it rises.", rich_help_panel=_RECIPE)
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(help="AdamW's.", rich_help_panel=_RECIPE)] = None,
    label_smoothing: Annotated[
        float | None, typer.Option(help="Spread over all classes.", rich_help_panel=_RECIPE)
    ] = None,
    class_weights: Annotated[
        ClassWeights | None,
        typer.Option(help="balanced: rare classes weigh more.", rich_help_panel=_RECIPE),
    ] = None,
    gradient_checkpointing: Annotated[
        bool | None, typer.Option(help="Slower, but needs less memory.", rich_help_panel=_RECIPE)
    ] = None,
    max_length_tokens: Annotated[
        int | None, typer.Option(min=8, help="Longer texts are cut.", rich_help_panel=_RECIPE)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of everything random.", rich_help_panel=_RECIPE)
    ] = None,
    checkpoint_steps: Annotated[
        int | None, typer.Option(min=1, help="Steps between two checkpoints.", rich_help_panel=_OUTPUT)
    ] = None,
    save_precision: Annotated[
        SavePrecision | None, typer.Option(help="bf16 halves the adapter.", rich_help_panel=_OUTPUT)
    ] = None,
) -> None:
    """Fit an adapter on labelled texts.

    Flags may be written with underscores; torchrun may start it.
    """
    from reviewloop.cli.training_output import print_start, print_summary, show_steps
    from trainer.fitting.outputs import Places
    from trainer.fitting.run import Run
    from trainer.fitting.run_directory import Request, run_in_directory

    if task_type not in _TASK_TYPES:
        raise WrongUse(f"The task type is {_TASK_TYPES[0]} (or {_TASK_TYPES[1]}), not {task_type}.")
    given = {
        "peft_method": peft_method and peft_method.value,
        "lora_r": lora_r,
        "lora_alpha": lora_alpha,
        "lora_dropout": lora_dropout,
        "target_modules": _names(target_modules),
        "epochs": epochs,
        "patience_epochs": patience_epochs,
        "batch_size": batch_size,
        "accumulation_steps": accumulation_steps,
        "learning_rate": learning_rate,
        "warmup_fraction": warmup_fraction,
        "weight_decay": weight_decay,
        "label_smoothing": label_smoothing,
        "class_weights": class_weights and class_weights.value,
        "gradient_checkpointing": gradient_checkpointing,
        "max_length_tokens": max_length_tokens,
        "seed": seed,
        "checkpoint_steps": checkpoint_steps,
        "save_precision": save_precision and save_precision.value,
    }
    where = {"base_model": base_model, "task": task, "device": device, "precision": precision}
    settings = settings_for(where, given, peft_config)
    files = {"train": train_file, "validation": val_file, "test": test_file}
    splits = read_splits(
        files,
        settings.classifier.task,
        labels,
        num_labels,
        (text_column, label_column),
        form=to_form(None, encoding, delimiter),
    )
    run = Run(splits, settings.classifier, settings.trainer, note)
    request = Request(
        run,
        Places(output_dir, adapter_dir or output_dir / "adapter"),
        {name: file for name, file in files.items() if file is not None},
        ["reviewloop", *sys.argv[1:]],
        resume=resume,
        overwrite=overwrite,
    )
    print_start(run)
    with show_steps() as report:
        done = run_in_directory(request, report)
    if done is not None:
        print_summary(done, request.places)


def settings_for(
    classifier: dict[str, Any], given: dict[str, Any], peft_config: Path | None = None
) -> "Settings":
    """The settings in force: the command line over ``peft_config.json`` over everything else.

    Args:
        classifier: Options of the section ``classifier``.
        given: Options of the section ``trainer``; None is not given.
        peft_config: The file; None for the one of this folder, if there is one.

    Raises:
        WrongUse: If a value is not valid, or the file is no configuration.
    """
    from reviewloop.settings import load_settings
    from trainer.fitting.recipe import FILE, read_peft_file

    file = peft_config or (Path(FILE) if Path(FILE).is_file() else None)
    recipe: dict[str, Any] = {}
    if file is not None:
        recipe = read_peft_file(file)
        say(f"Recipe from {file}: {', '.join(f'{k} {v}' for k, v in recipe.items())}", err=True)
    chosen = {name: value for name, value in given.items() if value is not None}
    return load_settings({"classifier": classifier, "trainer": recipe | chosen})


def read_splits(
    files: dict[str, Path | None],
    task: str,
    labels: str | None = None,
    num_labels: int | None = None,
    columns: tuple[str, str] = ("text", "label"),
    *,
    form: Form = AS_FOUND,
) -> "Splits":
    """The rows of ``train``, ``validation`` and ``test`` (or none), all with the classes of the first.

    What was guessed of a file is told.

    Raises:
        WrongUse: If a file cannot be read as it should be.
    """
    from trainer.data.dataset import read_dataset
    from trainer.fitting.run import Splits

    names = _names(labels)
    if names is not None and num_labels not in (None, len(names)):
        raise WrongUse(f"--labels names {len(names)} classes, --num-labels asks for {num_labels}.")
    text_column, label_column = columns

    def read(file: Path | None, known: tuple[str, ...] | None) -> Any:
        rows = read_dataset(
            file or Path(), names=known, num_labels=num_labels, task=task,
            text_column=text_column, label_column=label_column, form=form,
        )  # fmt: skip
        if (note := guessed(file or Path(), form, rows.form)) is not None:
            say(note, err=True)
        return rows

    train_rows = read(files["train"], names)
    _say_absent(train_rows, files["train"])
    test = read(files["test"], train_rows.names) if files.get("test") else None
    return Splits(train_rows, read(files["validation"], train_rows.names), test)


def _say_absent(rows: "Dataset", file: Path | None) -> None:
    """Name the classes that were asked for and that nobody can learn from these rows."""
    absent = [name for index, name in enumerate(rows.names) if index not in set(rows.labels)]
    if absent:
        named = ", ".join(f"'{name}'" for name in absent)
        say(
            f"Warning: {file} has no row of {named}, of {len(rows.names)} classes: an adapter does not learn "
            "what it never sees. Add such rows, or ask for fewer classes.",
            err=True,
        )


def _names(value: str | None) -> tuple[str, ...] | None:
    """The items of a comma-separated list."""
    return tuple(name.strip() for name in value.split(",") if name.strip()) if value else None
