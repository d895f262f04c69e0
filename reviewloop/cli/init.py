"""``reviewloop init``: a folder in which ``reviewloop train`` works."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from reviewloop.demo.sample import REVIEWS_FILE
from reviewloop.terminal import say
from reviews.csv_output import to_csv
from reviews.durable import replace_directory
from reviews.errors import ReviewLoopError, WrongUse
from reviews.sources.writing import write_value
from reviews.task import DEFAULT_LABELS, SENTIMENT_TASK, LabelSettings, TaskSettings, described_labels
from trainer.data.dataset import SENTIMENTS, read_dataset
from trainer.data.near_duplicates import duplicate_groups
from trainer.data.splitting import SPLITS, stratified_split
from trainer.fitting.recipe import FILE, peft_file
from trainer.settings import PeftMethod

_TARGETS = {"ia3": ["key", "value", "dense"]}
_SETTINGS = """\
# Settings of this project; 'reviewloop config show' lists all of them, with where each value came from.
[classifier]
base_model = {base}
task = {task}

[consumer]
tasks = [{task}]

[trainer]
peft_method = "{method}"
epochs = 3
batch_size = 16
learning_rate = {rate}

# What may be answered. From these texts 'reviewloop up' and 'reviewloop adapters zero-shot --activate' make
# an adapter that scores before anybody has labelled a review. A label may have a description = "…" as well;
# sentences in the words of your reviewers are best. The base has to embed sentences, as
# sentence-transformers/all-MiniLM-L6-v2 does.
{labels}
# Reviews in a topic of another shape or format: 'reviewloop sources try TOPIC' reads some of its records and
# proposes a section [[sources]] for this file.
"""
# The rates that each method is known to learn well at, for encoders of this kind.
_RATES = {"none": "5e-5", "ia3": "5e-3", "lora+": "2e-4"}


def init(
    directory: Annotated[Path, typer.Argument(help="The new folder.")],
    base_model: Annotated[
        str, typer.Argument(help="Hugging Face id, directory or package:NAME/PATH.")
    ] = "roberta-base",
    method: Annotated[PeftMethod, typer.Argument(help="How the base is adapted.")] = "lora",
    *,
    task: Annotated[str, typer.Option(help="The name of the question that is answered.")] = SENTIMENT_TASK,
    label: Annotated[
        list[str] | None,
        typer.Option(
            help="A label, as NAME or 'NAME=what it means, in a sentence'; repeatable. Without any: "
            "negative, neutral and positive."
        ),
    ] = None,
    example: Annotated[
        list[str] | None,
        typer.Option(help="A sentence that a label suits, as 'NAME=sentence'; repeatable."),
    ] = None,
) -> None:
    """Make a project: settings, a recipe, and the bundled reviews, split.

    The folder gets reviewloop.toml, peft_config.json, and, for the labels of the bundled reviews, data/ with
    them.
    """
    described = _described(task, label or [], example or [])
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise WrongUse(f"{directory} is there already; name a new or an empty folder.")
    base = str(Path(base_model).resolve()) if Path(base_model).is_dir() else base_model
    settings = _SETTINGS.format(
        base=write_value(base),
        task=write_value(task),
        labels=_labels_section(task, described),
        method=method,
        rate=_RATES.get(method, "5e-4"),
    )
    is_sample_of_use = tuple(one.name for one in described) == SENTIMENTS
    files = {"reviewloop.toml": settings, **_recipe(method), **(_sample() if is_sample_of_use else {})}
    try:
        replace_directory(directory, {name: content.encode() for name, content in files.items()})
    except OSError as err:
        raise ReviewLoopError(f"{directory} cannot be made: {err.strerror or err}.") from err
    for name in files:
        say(f"{directory / name}", err=True)
    say("Next:", err=True)
    if is_sample_of_use:
        say(
            f"cd {directory} && reviewloop train --train-file data/train.csv --val-file data/val.csv "
            "--test-file data/test.csv --adapter-dir adapters"
        )
    else:
        say(f"cd {directory} && reviewloop up")


def _described(task: str, labels: Sequence[str], examples: Sequence[str]) -> tuple[LabelSettings, ...]:
    """The labels as they were given, each with a text at least.

    Raises:
        WrongUse: If one has no text, or an example is of no label.
    """
    descriptions: dict[str, str | None] = {}
    for given in labels:
        name, _, description = given.partition("=")
        descriptions[name.strip()] = description.strip() or None
    sentences: dict[str, list[str]] = {name: [] for name in descriptions or map(_name, DEFAULT_LABELS)}
    for given in examples:
        name, is_given, sentence = given.partition("=")
        if not is_given or name.strip() not in sentences:
            raise WrongUse(
                f"--example {given[:60]!r} names no label: write NAME=sentence, and as the name "
                f"{' or '.join(sentences)}."
            )
        sentences[name.strip()].append(sentence.strip())
    try:
        written = [
            LabelSettings(name=name, description=descriptions.get(name), examples=tuple(found))
            for name, found in sentences.items()
        ]
        return described_labels(task, [TaskSettings(name=task, labels=tuple(written))])
    except ValidationError as err:
        problem = err.errors(include_url=False, include_input=False)[0]["msg"]
        raise WrongUse(f"These labels cannot be used: {problem.removeprefix('Value error, ')}.") from err


def _name(label: LabelSettings) -> str:
    return label.name


def _labels_section(task: str, labels: Sequence[LabelSettings]) -> str:
    """The section ``[[tasks]]`` of the settings file."""
    lines = ["[[tasks]]", f"name = {write_value(task)}"]
    for label in labels:
        lines += ["", "[[tasks.labels]]", f"name = {write_value(label.name)}"]
        if label.description is not None:
            lines.append(f"description = {write_value(label.description)}")
        if label.examples:
            lines += ["examples = [", *(f"  {write_value(one)}," for one in label.examples), "]"]
    return "\n".join(lines) + "\n"


def _recipe(method: PeftMethod) -> dict[str, str]:
    if method == "none":
        return {}
    targets = _TARGETS.get(method, ["query", "value"])
    recipe = {"r": 8, "lora_alpha": 16, "lora_dropout": 0.1, "target_modules": targets}
    return {FILE: peft_file(method, recipe)}


def _sample() -> dict[str, str]:
    """The bundled reviews as three CSV files."""
    reviews = read_dataset(REVIEWS_FILE, names=SENTIMENTS)
    parts = stratified_split(reviews.labels, duplicate_groups(reviews.texts))
    files = {}
    for index, name in enumerate(SPLITS):
        rows = zip(reviews.texts, reviews.labels, parts, strict=True)
        cells = ((text, SENTIMENTS[label]) for text, label, part in rows if part == index)
        files[f"data/{name}.csv"] = to_csv(("text", "label"), cells)
    return files
