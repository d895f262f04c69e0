"""The record of one training run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple

from reviews.slices import Slice

RunState = Literal["running", "planned", "promoted", "kept", "waiting", "failed"]
"""``kept``: the gate refused the candidate. ``waiting``: there are not enough labels yet. ``planned``: of a
dry run, which is written nowhere."""
STAGES = ("collect", "snapshot", "fit", "evaluate", "register", "promote", "queue", "drift")
"""The stages of a run, in the order in which a run that promotes passes them."""

LEFT_OUT_WORDS = {
    "other_label": "whose label the active adapter does not have",
    "copy_of_held_out": "that say nearly the same as a test or audit row",
    "copy_of_validation": "that say nearly the same as a validation row",
    "text_gone": "whose text was deleted",
    "models_held_out": "that only models answered and that are not of the training slice",
}
"""Why a dataset leaves labelled reviews out, by the name in its manifest."""


class TrainingItem(NamedTuple):
    """One labelled record of a frozen dataset.

    Attributes:
        record: Which.
        slice: Where it belongs, for ever.
        label: The consensus when the dataset was frozen.
        weight: How much it counts in training; 1 elsewhere.
    """

    record: int
    slice: Slice
    label: str
    weight: float


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """One run of the trainer.

    Attributes:
        id: Grows with time.
        task: Whose adapter it trains.
        trigger: What started it: ``manual``, ``nightly``, ``labels``, ``drift``, ``requested``.
        state: Where it stands, or how it ended.
        stage: The last stage that it reached.
        started_at: UTC, the database's clock.
        finished_at: None while it runs.
        config: Settings and seed.
        manifest: Of the frozen dataset.
        metrics: What was measured, by recipe and on the frozen rows.
        verdict: The gate's report; what is missing, where it waits.
        error: Why it failed, in a sentence.
        active_adapter: The active adapter when it began.
        candidate_adapter: What it made.
        activation_id: Of its promotion.
        progress: How far its fits are, or were when it ended; None where none was at work for some seconds.
    """

    id: int
    task: str
    trigger: str
    state: RunState
    stage: str
    started_at: datetime
    finished_at: datetime | None
    config: Mapping[str, Any] = field(default_factory=dict)
    manifest: Mapping[str, Any] | None = None
    metrics: Mapping[str, Any] | None = None
    verdict: Mapping[str, Any] | None = None
    error: str | None = None
    active_adapter: str | None = None
    candidate_adapter: str | None = None
    activation_id: int | None = None
    progress: Mapping[str, Any] | None = None


def fits_in_words(progress: Mapping[str, Any]) -> str:
    """How far the fits of a run are, in a line."""
    return (
        f"{progress['recipe']} ({progress['number']} of {progress['of']}): step {progress['step']:,} of "
        f"{progress['steps']:,}, {progress['seconds']:,.0f} of {progress['budget_seconds']:,.0f} s"
    )


def steps_in_words(recipe: Mapping[str, Any]) -> str:
    """The steps of a recipe; those that were planned too, where there was no time for all of them."""
    steps, planned = recipe["steps"], recipe.get("planned_steps")  # earlier versions did not note it
    return f"{steps:,} of {planned:,}" if planned and steps < planned else f"{steps:,}"
