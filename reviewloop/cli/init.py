"""``reviewloop init``: a folder in which ``reviewloop train`` works."""

from pathlib import Path
from typing import Annotated

import typer

from reviewloop.demo.sample import REVIEWS_FILE
from reviewloop.terminal import say
from reviews.csv_output import to_csv
from reviews.durable import replace_directory
from reviews.errors import ReviewLoopError, WrongUse
from trainer.data.dataset import SENTIMENTS, read_dataset
from trainer.data.near_duplicates import duplicate_groups
from trainer.data.splitting import SPLITS, stratified_split
from trainer.fitting.recipe import FILE, peft_file
from trainer.settings import PeftMethod

_TARGETS = {"ia3": ["key", "value", "dense"]}
_SETTINGS = """\
# Settings of this project; 'reviewloop config show' lists all of them, with where each value came from.
[classifier]
base_model = "{base}"

[trainer]
peft_method = "{method}"
epochs = 3
batch_size = 16
learning_rate = {rate}

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
) -> None:
    """Make a project: settings, a recipe, and the bundled reviews, split.

    The folder gets reviewloop.toml, peft_config.json, and data/ with the reviews.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise WrongUse(f"{directory} is there already; name a new or an empty folder.")
    base = str(Path(base_model).resolve()) if Path(base_model).is_dir() else base_model
    settings = _SETTINGS.format(
        base=base.replace("\\", "\\\\").replace('"', '\\"'),
        method=method,
        rate=_RATES.get(method, "5e-4"),
    )
    files = {"reviewloop.toml": settings, **_recipe(method), **_sample()}
    try:
        replace_directory(directory, {name: content.encode() for name, content in files.items()})
    except OSError as err:
        raise ReviewLoopError(f"{directory} cannot be made: {err.strerror or err}.") from err
    for name in files:
        say(f"{directory / name}", err=True)
    say("Next:", err=True)
    say(
        f"cd {directory} && reviewloop train --train-file data/train.csv --val-file data/val.csv "
        "--test-file data/test.csv --adapter-dir adapters"
    )


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
