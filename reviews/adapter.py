"""Adapter versions, their comparable metrics, and the history of activations.

An activation either brings something new, or restores an earlier one. Going back follows what each brought,
not the order of events: after A, B, C, one rollback restores B, and a second one A, not C again. What was
rolled back is reached by name alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple

from reviews.errors import WrongUse

MANIFEST_FILE = "reviewloop.json"
"""The file of an adapter directory that says what the adapter is and how it was made."""

Origin = Literal["trained", "zero-shot"]
"""How an adapter came to be: fitted to labelled reviews, or made from descriptions of its labels alone."""
ZERO_SHOT: Origin = "zero-shot"


AdapterState = Literal["registered", "rejected"]


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
        state: ``rejected`` where the gate refused it and nobody promoted it since, else ``registered``.
        origin: Whether labelled reviews made it, or descriptions of the labels.
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
    state: AdapterState = "registered"
    origin: Origin = "trained"

    @property
    def is_rejected(self) -> bool:
        """Whether the gate refused it, and nobody promoted it since."""
        return self.state == "rejected"

    @property
    def is_zero_shot(self) -> bool:
        """Whether no labelled review made it."""
        return self.origin == ZERO_SHOT


_COMPARED = ("macro_f1", "accuracy")
_SPLITS = ("test", "validation")


class ComparedMetric(NamedTuple):
    """One metric that two adapters of a task store.

    Attributes:
        name: What was measured, for example ``test_macro_f1``.
        split: The rows that it was measured on: ``test``, ``validation``, or empty where it is unknown.
        candidate: Of the adapter that would take over, in [0, 1].
        active: Of the active adapter, in [0, 1].
    """

    name: str
    split: str
    candidate: float
    active: float

    @property
    def is_worse(self) -> bool:
        """Whether the adapter that would take over is worse."""
        return self.candidate < self.active


def compare_metrics(candidate: AdapterVersion, active: AdapterVersion) -> ComparedMetric | None:
    """The best metric that two adapters can be compared by: macro-F1 before accuracy, test before validation.

    None where they answer different questions or no metric is stored for both.
    """
    if (candidate.task, set(candidate.labels)) != (active.task, set(active.labels)):
        return None
    for metric in _COMPARED:
        for split in (*_SPLITS, ""):
            name = f"{split}_{metric}" if split else metric
            if name in candidate.metrics and name in active.metrics:
                return ComparedMetric(name, split, candidate.metrics[name], active.metrics[name])
    return None


@dataclass(frozen=True, slots=True)
class Activation:
    """The record of one adapter taking over a task.

    Attributes:
        id: Grows with time; names the activation that the next one has to replace.
        task: The task that the adapter is active for from now on.
        version: The adapter.
        replaced: The adapter that was active before; None for the first.
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
    """Shadow scoring: an adapter scores a share of the live reviews, and nobody is shown what it says.

    Attributes:
        id: Names the run.
        task: Its task.
        version: The adapter.
        share: Of the reviews, in (0, 1].
        started_at: When it began (UTC, the database's clock).
        ended_at: When it ended; None: it goes on.
        decided_by: Who or what began it.
        reason: Why, in a sentence; empty where nobody said.
        ended_by: Who or what ended it; None where that was not kept.
        end_reason: Why it was ended.
    """

    id: int
    task: str
    version: str
    share: float
    started_at: datetime
    ended_at: datetime | None
    decided_by: str
    reason: str = ""
    ended_by: str | None = None
    end_reason: str | None = None


class Service(NamedTuple):
    """One adapter's time of service.

    Attributes:
        activation: How it began.
        ended_at: When the next one took over (UTC); None: it is still active.
    """

    activation: Activation
    ended_at: datetime | None


def services(history: Sequence[Activation]) -> list[Service]:
    """The history of active adapters, newest first.

    Args:
        history: Every activation, of one task or of several, newest first.
    """
    found, began_later = [], dict[str, datetime]()
    for activation in history:
        found.append(Service(activation, began_later.get(activation.task)))
        began_later[activation.task] = activation.activated_at
    return found


def before(history: Sequence[Activation]) -> Activation:
    """The activation that a rollback restores: the adapter before the active one.

    Args:
        history: Every activation of one task, newest first.

    Raises:
        WrongUse: If no adapter was active before.
    """
    if not history:
        raise WrongUse("This task has no active adapter: there is nothing to roll back.")
    for earlier in _way_back(history):
        if earlier.version != history[0].version:
            return earlier
    raise WrongUse(f"The task '{history[0].task}' had no active adapter before {history[0].version}.")


def last_of(history: Sequence[Activation], version: str) -> Activation:
    """The latest time that an adapter was brought, for going back to it by name.

    Args:
        history: Every activation of one task, newest first.
        version: The adapter.

    Raises:
        WrongUse: If it was never active, or is active now.
    """
    if history and history[0].version == version:
        raise WrongUse(
            f"{version} is the active adapter of the task '{history[0].task}': there is nothing to roll back."
        )
    by_id = {activation.id: activation for activation in history}
    for activation in history:
        if activation.version == version:
            return _brought(activation, by_id)
    raise WrongUse(
        f"{version} was never active for this task: 'reviewloop adapters promote' activates what is new, "
        "'adapters history' shows what was active."
    )


def _way_back(history: Sequence[Activation]) -> Iterator[Activation]:
    """Each activation that brought something, from the one before the active adapter down to the first."""
    by_id = {activation.id: activation for activation in history}
    current = _brought(history[0], by_id)
    while current.replaces is not None:
        current = _brought(by_id[current.replaces], by_id)
        yield current


def _brought(activation: Activation, by_id: dict[int, Activation]) -> Activation:
    """The activation that brought the adapter of this one: itself, or the one that it restores."""
    return activation if activation.restores is None else by_id[activation.restores]
