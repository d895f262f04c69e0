"""``reviewloop train``: labelled texts in, an adapter out.

Its options for the recipe are the fields of :class:`trainer.settings.TrainerSettings`.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from reviewloop.cli.arguments import DelimiterOption, EncodingOption, guessed, model_options, to_form
from reviewloop.cli.training_output import print_start, print_summary, show_steps
from reviewloop.settings import Settings, load_settings
from reviewloop.terminal import say
from reviews.errors import WrongUse
from trainer.data.dataset import Dataset, read_dataset
from trainer.data.table_source import AS_FOUND, Form
from trainer.fitting.fit_data import FitRequest, Splits
from trainer.fitting.outputs import Places
from trainer.fitting.recipe import FILE, read_peft_file
from trainer.fitting.run_directory import DirectoryRequest, run_in_directory
from trainer.settings import TrainerSettings

_TASK_TYPES = ("classification", "SEQ_CLS")
_DATA, _RECIPE, _OUTPUT = "Data", "Recipe", "Output"
_ABOUT_OUTPUT = ("checkpoint_steps", "save_precision")
# Rarely changed: these are set in reviewloop.toml or by the environment.
_WITHOUT_OPTION = ("loraplus_ratio", "base_dropout", "train_pooler", "max_gradient_norm")

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


recipe_options = model_options(
    TrainerSettings,
    [name for name in TrainerSettings().recipe() if name not in _WITHOUT_OPTION],
    lambda name: _OUTPUT if name in _ABOUT_OUTPUT else _RECIPE,
)


@recipe_options
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
    **recipe: Any,
) -> None:
    """Fit an adapter on labelled texts.

    Flags may be written with underscores; torchrun may start it.
    """
    if task_type not in _TASK_TYPES:
        raise WrongUse(f"The task type is {_TASK_TYPES[0]} (or {_TASK_TYPES[1]}), not {task_type}.")
    where = {"base_model": base_model, "task": task, "device": device, "precision": precision}
    settings = settings_for(where, recipe | {"target_modules": _names(recipe["target_modules"])}, peft_config)
    files = {"train": train_file, "validation": val_file, "test": test_file}
    splits = read_splits(
        files,
        settings.classifier.task,
        labels,
        num_labels,
        (text_column, label_column),
        form=to_form(None, encoding, delimiter),
    )
    fit = FitRequest(splits, settings.classifier, settings.trainer, note)
    request = DirectoryRequest(
        fit,
        Places(output_dir, adapter_dir or output_dir / "adapter"),
        {name: file for name, file in files.items() if file is not None},
        ["reviewloop", *sys.argv[1:]],
        resume=resume,
        overwrite=overwrite,
    )
    print_start(fit)
    with show_steps() as report:
        done = run_in_directory(request, report)
    if done is not None:
        print_summary(done, request.places)


def settings_for(
    classifier: dict[str, Any], given: dict[str, Any], peft_config: Path | None = None
) -> Settings:
    """The current settings: the command line over ``peft_config.json`` over everything else.

    Args:
        classifier: Options of the section ``classifier``.
        given: Options of the section ``trainer``; None is not given.
        peft_config: The file; None for the one of this folder, if there is one.

    Raises:
        WrongUse: If a value is not valid, or the file is not a configuration.
    """
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
) -> Splits:
    """The rows of ``train``, ``validation`` and ``test`` (or none), all with the classes of the first.

    What was guessed of a file is told.

    Raises:
        WrongUse: If a file cannot be read as it should be.
    """
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


def _say_absent(rows: Dataset, file: Path | None) -> None:
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
