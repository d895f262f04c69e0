"""What the system knows of one trained adapter, wherever its files are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class AdapterVersion:
    """One immutable, content-addressed adapter.

    Attributes:
        version: Its public name: the task and the beginning of the content hash.
        task: What it decides.
        labels: Its labels in the order of the probabilities.
        base_model: Hugging Face id, directory or ``package:NAME/PATH`` of the base it was trained on.
        base_revision: The base's revision, where it has one.
        content_hash: sha256 over the files, as lower-case hex digits.
        temperature: Divides the logits so that probabilities are calibrated.
        metrics: What was measured at training time.
        parent: The version it was trained from, where it did not start from the base.
        created_at: When it was registered (UTC); None before that.
    """

    version: str
    task: str
    labels: tuple[str, ...]
    base_model: str
    base_revision: str | None
    content_hash: str
    temperature: float = 1.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    parent: str | None = None
    created_at: datetime | None = None


_COMPARED = ("macro_f1", "accuracy")
_SPLITS = ("test", "validation")


class ComparedMetric(NamedTuple):
    """One metric that two adapters of a task store.

    Attributes:
        name: What was measured, ``test_macro_f1`` for one.
        split: The rows that it was measured on: ``test``, ``validation``, or empty where nobody says.
        candidate: Of the adapter that would take over, in [0, 1].
        serving: Of the adapter that serves, in [0, 1].
    """

    name: str
    split: str
    candidate: float
    serving: float

    @property
    def is_worse(self) -> bool:
        """Whether the adapter that would take over is worse."""
        return self.candidate < self.serving


def compare_metrics(candidate: AdapterVersion, serving: AdapterVersion) -> ComparedMetric | None:
    """The best metric that two adapters can be compared by: macro-F1 before accuracy, test before validation.

    None where they answer different questions or no metric is stored for both.
    """
    if (candidate.task, set(candidate.labels)) != (serving.task, set(serving.labels)):
        return None
    for metric in _COMPARED:
        for split in (*_SPLITS, ""):
            name = f"{split}_{metric}" if split else metric
            if name in candidate.metrics and name in serving.metrics:
                return ComparedMetric(name, split, candidate.metrics[name], serving.metrics[name])
    return None


@dataclass(frozen=True, slots=True)
class Activation:
    """The record of one adapter taking over a task.

    Attributes:
        id: Grows with time; names the activation that the next one has to replace.
        task: The task that the adapter serves from now on.
        version: The adapter.
        replaced: The adapter that served before; None for the first.
        activated_at: When (UTC, the database's clock).
        decided_by: Who or what decided.
        reason: Why, in a sentence.
        replaces: The activation that it replaced; None for the first.
        restores: The earlier activation whose adapter a rollback brought back; None where it was none. It is
            always one that brought an adapter itself.
    """

    id: int
    task: str
    version: str
    replaced: str | None
    activated_at: datetime
    decided_by: str
    reason: str
    replaces: int | None = None
    restores: int | None = None


@dataclass(frozen=True, slots=True)
class ShadowRun:
    """An adapter on trial: it scores a share of the live reviews, and nobody is shown what it says.

    Attributes:
        id: Names the trial.
        task: The task that it would serve.
        version: The adapter.
        share: Of the reviews, in (0, 1].
        started_at: When it began (UTC, the database's clock).
        ended_at: When it ended; None: it goes on.
        decided_by: Who or what began it.
    """

    id: int
    task: str
    version: str
    share: float
    started_at: datetime
    ended_at: datetime | None
    decided_by: str
