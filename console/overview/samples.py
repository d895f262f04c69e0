"""The stream day by day: exact counts from positions, and a random sample of each day's predictions.

Records are numbered in the order of their arrival, so that a day is a range of numbers in each partition, and
a number drawn at random in these ranges is a record drawn at random. A day that is over is read once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from storage.queries.overview import AuditedReview, OverviewStore, Positions, SampledPrediction
from storage.record_ranges import RecordRange, draw_records, total


class TaskLabels(NamedTuple):
    """The labels of a task.

    Attributes:
        ordered: In the order in which they are shown: that of the active adapter.
        of_version: The labels of each adapter in the order of its probabilities, by its version.
        now: What names of before the labels changed are called now; the others have their names.
    """

    ordered: tuple[str, ...]
    of_version: Mapping[str, Sequence[str]]
    now: Mapping[str, str] = MappingProxyType({})


SAMPLE = 400
"""So many records of each day are drawn."""
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, eq=False)
class StreamSample:
    """A stretch of the stream.

    Attributes:
        begins: When it begins (UTC).
        records: How many records it has, dead letters among them.
        probabilities: float64 (sampled, classes), in the order of the task's labels.
        predicted: int64 (sampled): the classes that were stored.
        versions: The adapter of each.
    """

    begins: datetime
    records: int
    probabilities: npt.NDArray[np.float64]
    predicted: npt.NDArray[np.int64]
    versions: tuple[str, ...]

    def shares(self) -> npt.NDArray[np.float64]:
        """float64 (classes): the share of each class; zeros where nothing was sampled."""
        counts = np.bincount(self.predicted, minlength=self.probabilities.shape[1])
        return np.asarray(counts / max(1, len(self.predicted)), np.float64)


class DailySamples:
    """Samples of the last days, and of the reference.

    Args:
        store: Reads positions and predictions.
        task: Whose predictions.
    """

    def __init__(self, store: OverviewStore, task: str) -> None:
        self._store = store
        self._task = task
        self._past: dict[tuple[datetime, tuple[str, ...]], StreamSample] = {}

    def days(self, now: datetime, count: int, labels: TaskLabels) -> list[StreamSample]:
        """The last so many days, today last.

        Args:
            now: The time (UTC).
            count: How many days.
            labels: Of the task.
        """
        today = now.replace(hour=0, minute=0, second=0, microsecond=0)
        begins = [today - _DAY * back for back in reversed(range(count))]
        known = {
            day: self._past[day, labels.ordered] for day in begins if (day, labels.ordered) in self._past
        }
        missing = [day for day in begins if day not in known]
        places = self._store.positions([*missing, *(day + _DAY for day in missing)])
        for day in missing:
            known[day] = self._read(day, places[day], places[day + _DAY], labels)
        self._past = {(day, labels.ordered): sample for day, sample in known.items() if day != today}
        return [known[day] for day in begins]

    def since(self, moment: datetime, records: int, labels: TaskLabels) -> StreamSample:
        """A sample of the first so many records since a moment, from all partitions alike."""
        future = datetime.max.replace(tzinfo=moment.tzinfo)
        places = self._store.positions([moment, future])
        first, end = places[moment], places[future]
        there = sum(end[partition] - first[partition] for partition in first)
        share = min(1.0, records / max(1, there))
        until = {
            partition: first[partition] + round((end[partition] - first[partition]) * share)
            for partition in first
        }
        return self._read(moment, first, until, labels)

    def _read(self, begins: datetime, first: Positions, until: Positions, labels: TaskLabels) -> StreamSample:
        ranges = [RecordRange(first[partition], until[partition]) for partition in sorted(first)]
        drawn = draw_records(ranges, SAMPLE, f"{self._task} {begins.isoformat()}")
        rows = self._store.sample(self._task, drawn) if drawn else []
        probabilities, predicted, versions = to_arrays(rows, labels)
        return StreamSample(begins, total(ranges), probabilities, predicted, versions)


def to_arrays(
    rows: Sequence[SampledPrediction | AuditedReview], labels: TaskLabels
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], tuple[str, ...]]:
    """Probabilities, predicted classes and adapters of rows, all in the order of the task's labels.

    Rows of adapters with other labels than the task's are left out.

    Returns:
        float64 (rows, classes), int64 (rows), and the versions.
    """
    column = {label: place for place, label in enumerate(labels.ordered)}
    fitting = [row for row in rows if set(labels.of_version.get(row.version, ())) == set(column)]
    probabilities = np.zeros((len(fitting), len(column)))
    for number, row in enumerate(fitting):
        own_order = [column[label] for label in labels.of_version[row.version]]
        np.add.at(probabilities[number], own_order, row.probabilities)
    predicted = np.array([column[labels.now.get(row.label, row.label)] for row in fitting], np.int64)
    return probabilities, predicted, tuple(row.version for row in fitting)
