"""The figures of adapters as their pages show them: one row a version, metrics by split, times of service."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from reviews.adapter import Activation, AdapterVersion, Service, ShadowRun, before, services
from reviews.errors import WrongUse
from storage.adapters.registry import AdapterStore
from storage.adapters.shadows import ShadowStore
from storage.database import Database
from storage.learning.runs import TrainingRunStore

SPLITS = ("test", "validation", "")
MEASURES = ("macro_f1", "accuracy", "macro_precision", "macro_recall", "calibration_error")
HISTORY = 500
"""So many of the latest activations are looked at."""


@dataclass(frozen=True, slots=True)
class AdapterRow:
    """One version in the list.

    Attributes:
        adapter: The version.
        macro_f1: Its best known macro-F1 in [0, 1], of test before validation rows; None if it stores none.
        split: The rows that this was measured on.
        run: The training run that made it; None where no run did.
        has_parent: Whether the version that it was trained from is registered here.
        periods: Its times of service, the latest first.
        trial: The running trial, where it is on trial.
    """

    adapter: AdapterVersion
    macro_f1: float | None
    split: str
    run: int | None
    has_parent: bool
    periods: Sequence[Service]
    trial: ShadowRun | None = None

    @property
    def is_active(self) -> bool:
        """Whether it scores the live stream now."""
        return any(period.ended_at is None for period in self.periods)


@dataclass(frozen=True, slots=True)
class AdapterList:
    """A piece of the versions of a task, the newest first.

    Attributes:
        rows: The versions.
        active: The activation in effect; None before the first.
        before: The adapter that a rollback restores; None where there is none.
        trial: The running trial.
        has_more: Whether there are older versions.
    """

    rows: Sequence[AdapterRow]
    active: Activation | None
    before: Activation | None
    trial: ShadowRun | None
    has_more: bool


class StoredMetric(NamedTuple):
    """One metric of one split, with its interval where that is stored."""

    value: float
    low: float | None
    high: float | None


class LabelTexts(NamedTuple):
    """The texts about labels that a zero-shot adapter was made from, as it says.

    Attributes:
        texts: By label, joined.
        reviews: How many reviews similarities were standardised on.
        source: Where these, or what stood in for them, are from.
    """

    texts: Mapping[str, str]
    reviews: int
    source: str


def list_adapters(database: Database, task: str, offset: int, limit: int) -> AdapterList:
    """A piece of the versions of a task with what became of each."""
    store = AdapterStore(database)
    adapters = store.newest(task, limit + 1, offset)
    history = store.history(task, HISTORY)
    served = services(history)
    trial = ShadowStore(database).running(task)
    rows = list_rows(database, adapters[:limit], served, trial)
    return AdapterList(
        rows, history[0] if history else None, restored_by_rollback(history), trial, len(adapters) > limit
    )


def list_rows(
    database: Database,
    adapters: Sequence[AdapterVersion],
    served: Sequence[Service],
    trial: ShadowRun | None = None,
) -> list[AdapterRow]:
    """A row for each of some adapters.

    Args:
        database: Knows which run made which adapter.
        adapters: The versions.
        served: Times of service of the task, the latest first.
        trial: The running trial of the task.
    """
    runs = TrainingRunStore(database).makers([adapter.version for adapter in adapters])
    known = AdapterStore(database).registered([adapter.parent for adapter in adapters if adapter.parent])
    return [
        AdapterRow(
            adapter,
            *headline(adapter),
            runs.get(adapter.version),
            adapter.parent in known,
            [period for period in served if period.activation.version == adapter.version],
            trial if trial and trial.version == adapter.version else None,
        )
        for adapter in adapters
    ]


def headline(adapter: AdapterVersion) -> tuple[float | None, str]:
    """The macro-F1 that an adapter stores, of the best split, and that split."""
    for split in SPLITS:
        found = adapter.metrics.get(_name(split, "macro_f1"))
        if found is not None:
            return found, split
    return None, ""


def measures(adapter: AdapterVersion) -> dict[str, dict[str, StoredMetric]]:
    """What an adapter stores of the usual metrics: by metric, then by split; empty parts are left out."""
    found = {
        measure: {
            split: StoredMetric(
                adapter.metrics[name], adapter.metrics.get(f"{name}_low"), adapter.metrics.get(f"{name}_high")
            )
            for split in SPLITS
            if (name := _name(split, measure)) in adapter.metrics
        }
        for measure in MEASURES
    }
    return {measure: splits for measure, splits in found.items() if splits}


def training_facts(manifest: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """How an adapter says that it was trained: its recipe, its rows, and the hashes of its data."""
    training = manifest.get("training")
    given = training if isinstance(training, dict) else {}
    found = {name: given.get(name) for name in ("recipe", "rows", "data_sha256")}
    return {name: values if isinstance(values, dict) else {} for name, values in found.items()}


def label_texts(adapter: AdapterVersion, manifest: Mapping[str, Any]) -> LabelTexts | None:
    """What a zero-shot adapter says of its making, as far as it is readable; None of any other adapter."""
    training = manifest.get("training")
    made = training.get("zero_shot") if isinstance(training, dict) else None
    if not adapter.is_zero_shot or not isinstance(made, dict):
        return None
    labels, reviews = made.get("labels"), made.get("standardised_on")
    given = labels if isinstance(labels, dict) else {}
    texts = {
        label: " ".join(map(str, given[label]))
        for label in adapter.labels
        if isinstance(given.get(label), list)
    }
    return LabelTexts(texts, reviews if isinstance(reviews, int) else 0, str(made.get("source", "")))


def shade(count: int, total: int) -> int:
    """How strong a cell of a table of counts is shaded, from 0 (empty) to 4."""
    share = count / total if total else 0.0
    return sum(share > limit for limit in (0.0, 0.05, 0.15, 0.35))


def restored_by_rollback(history: Sequence[Activation]) -> Activation | None:
    """What a rollback would restore; None where there is nothing before."""
    try:
        return before(history)
    except WrongUse:
        return None


def _name(split: str, measure: str) -> str:
    return f"{split}_{measure}" if split else measure
