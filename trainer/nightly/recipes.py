"""From recipes by name to what is fitted tonight, without what is impossible or a repetition. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.nightly.settings import RecipeSettings
from trainer.nightly.snapshot import Row, Snapshot

if TYPE_CHECKING:
    from trainer.settings import TrainerSettings


@dataclass(frozen=True, slots=True)
class Plan:
    """One fit of tonight.

    Attributes:
        name: Of its recipe.
        start: Directory of the adapter that it goes on from; None for fresh matrices.
        rows: What it trains on.
        settings: How.
    """

    name: str
    start: Path | None
    rows: tuple[Row, ...]
    settings: "TrainerSettings"

    @property
    def steps(self) -> int:
        """Optimiser steps, at most."""
        passes = -(-len(self.rows) // self.settings.batch_size)
        return self.settings.epochs * -(-passes // self.settings.accumulation_steps)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A recipe that is not fitted tonight, and why, in a sentence."""

    name: str
    reason: str


def plan(
    snapshot: Snapshot, settings: "TrainerSettings", active: Path | None, seed: int
) -> tuple[list[Plan], list[Skipped]]:
    """What is fitted tonight, in the order of the settings, and what is not.

    Args:
        snapshot: The frozen rows.
        settings: The recipes, and what they have in common.
        active: Directory of the adapter that serves; None where none does.
        seed: Of every fit.
    """
    plans: list[Plan] = []
    skipped: list[Skipped] = []
    taken: dict[tuple[object, ...], str] = {}
    for recipe in settings.nightly.recipes:
        rows = tuple(row for row in snapshot.of("train") if recipe.replay or row.is_new)
        key = (recipe.start, recipe.learning_rate, len(rows))
        why = _why_not(recipe, rows, snapshot.names, active, settings.nightly.min_class_rows)
        if not why and key in taken:
            why = f"Tonight it is the same as {taken[key]}: there are no older rows."
        if why:
            skipped.append(Skipped(recipe.name, why))
            continue
        taken[key] = recipe.name
        common = {"learning_rate": recipe.learning_rate, "seed": seed}
        start = active if recipe.start == "active" else None
        plans.append(Plan(recipe.name, start, rows, settings.model_copy(update=common)))
    return plans, skipped


def _why_not(
    recipe: RecipeSettings, rows: Sequence[Row], names: Sequence[str], active: Path | None, least: int
) -> str:
    if recipe.start == "active" and active is None:
        return "No adapter serves yet that it could go on from."
    counts = [sum(row.label == index for row in rows) for index in range(len(names))]
    few = [name for name, count in zip(names, counts, strict=True) if count < least]
    if few:
        return f"Too few new rows of {', '.join(few)}: {least} are needed."
    return ""
