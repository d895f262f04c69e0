"""An adapter for the loop to begin with, made by the project's trainer where it is missing."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from classifier.adapters.manifest import MANIFEST
from trainer.dataset import Dataset
from trainer.settings import TrainerSettings
from trainer.simulation.experiment import Start
from trainer.splitting import stratified_split
from trainer.train import Run, Splits, train

if TYPE_CHECKING:
    from classifier.settings import ClassifierSettings
    from trainer.fit import Report

_VALIDATION_SHARE = 0.15


def part_of(rows: Dataset, positions: list[int]) -> Dataset:
    """These rows of a data set, in this order."""
    return Dataset(
        tuple(rows.texts[position] for position in positions),
        tuple(rows.labels[position] for position in positions),
        rows.names,
        rows.sha256,
    )


def trained_start(
    rows: Dataset, start: Start, classifier: "ClassifierSettings", cache: Path, report: "Report"
) -> Path:
    """Directory of an adapter fitted on a share of the rows; fitted only where it is not there yet.

    Args:
        rows: Labelled texts of the domain that it is to know.
        start: The share of them that is trained on, 15 % of it being validation instead, and the recipe.
        classifier: Base model and task.
        cache: Where it is kept, under a name that follows from all of the above.
        report: Told of every step.

    Raises:
        ModelError: If the base cannot be had.
        AdapterError: If it cannot be written.
    """
    share, recipe = start.share, start.recipe
    what = [rows.sha256, rows.names, share, classifier.base_model, classifier.task]
    key = hashlib.sha256(json.dumps([*what, recipe.recipe()], sort_keys=True).encode())
    root = cache / f"start-{key.hexdigest()[:16]}"
    made = sorted(file.parent for file in root.glob(f"*/{MANIFEST}"))
    return made[0] if made else train(_run(rows, share, classifier, recipe), root, report).directory


def _run(rows: Dataset, share: float, classifier: "ClassifierSettings", recipe: TrainerSettings) -> Run:
    shares = [share * (1 - _VALIDATION_SHARE), share * _VALIDATION_SHARE, max(1e-9, 1 - share)]
    split = stratified_split(rows.labels, range(len(rows)), recipe.seed, shares)
    train_rows, validation = (
        part_of(rows, [row for row, part in enumerate(split) if part == wanted]) for wanted in (0, 1)
    )
    return Run(Splits(train_rows, validation), classifier, recipe, note=f"Made on {share:.0%} of a stream.")
