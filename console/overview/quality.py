"""How good the classifier is: macro-F1 on audit labels, and between them what its probabilities promise.

Audit labels are the truth about the stream, since a random draw asked for them, but they are few and come
late. Between them, calibrated probabilities of each day's sample say what to expect (`drift.performance`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

from console.overview.samples import StreamSample, TaskLabels, to_arrays
from drift.performance import (
    LEAST_LABELS,
    calibrate,
    expected_performance,
    macro_f1_interval,
    performance,
)
from storage.overview import AuditedReview

STRETCH = timedelta(days=7)
LEAST_IN_STRETCH = 5
"""A week with fewer audit labels has no point in the chart."""
_LEAST_EXPECTED = 30


@dataclass(frozen=True, slots=True)
class AuditedQuality:
    """Macro-F1 and accuracy on audit labels.

    Attributes:
        labels: How many there are.
        macro_f1: In [0, 1].
        low: Lower end of its 95 % interval.
        high: Upper end.
        accuracy: Share of right answers.
    """

    labels: int
    macro_f1: float
    low: float
    high: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class StretchQuality:
    """The audit labels of one stretch of time.

    Attributes:
        begins: When it begins (UTC).
        ends: When it ends.
        audited: What they say.
    """

    begins: datetime
    ends: datetime
    audited: AuditedQuality


@dataclass(frozen=True, slots=True)
class MeasuredQuality:
    """How good the active adapter is, and how good the answers of the last weeks were.

    Attributes:
        active: The active adapter on the audited reviews that it scored; None without labels.
        course: The audit labels of each of the last weeks, whichever adapter answered.
        expected: The expected macro-F1 of each day, oldest first; None where too little was stored.
        calibrated_on: How many audit labels calibrated the expectation; 0: it is as the adapters promise.
    """

    active: AuditedQuality | None
    course: tuple[StretchQuality, ...]
    expected: tuple[float | None, ...]
    calibrated_on: int


def measure_quality(
    audited: Sequence[AuditedReview],
    days: Sequence[StreamSample],
    active_version: str,
    labels: TaskLabels,
    until: datetime,
) -> MeasuredQuality:
    """All of it.

    Args:
        audited: Audited reviews in order of arrival.
        days: Samples of the last days, oldest first.
        active_version: The active adapter.
        labels: Of the task.
        until: The end of the last week (UTC).
    """
    known = [review for review in audited if review.truth in labels.ordered]
    own = [review for review in known if review.version == active_version]
    probabilities, _, versions = to_arrays(own, labels)
    truth = np.array([labels.ordered.index(review.truth) for review in own], np.int64)
    calibration = calibrate(probabilities, truth) if len(versions) == len(own) >= LEAST_LABELS else None

    def expected(day: StreamSample) -> float | None:
        if len(day.predicted) < _LEAST_EXPECTED:
            return None
        is_active = np.array([version == active_version for version in day.versions])
        promised = day.probabilities.copy()
        if calibration is not None and is_active.any():
            promised[is_active] = calibration.apply(promised[is_active])
        return expected_performance(promised, day.predicted).macro_f1

    return MeasuredQuality(
        audited_quality(own, labels),
        tuple(_course(known, labels, days[0].begins if days else until, until)),
        tuple(expected(day) for day in days),
        0 if calibration is None else calibration.labels,
    )


def audited_quality(reviews: Sequence[AuditedReview], labels: TaskLabels) -> AuditedQuality | None:
    """Macro-F1 of the stored predictions on audit labels; None without labels."""
    counts = _confusion(reviews, labels)
    total = int(counts.sum())
    if not total:
        return None
    reached = performance(counts)
    return AuditedQuality(total, reached.macro_f1, *macro_f1_interval(counts), reached.accuracy)


def _confusion(reviews: Sequence[AuditedReview], labels: TaskLabels) -> npt.NDArray[np.float64]:
    """float64 (classes, classes): true classes down, predicted ones across; labels of old tasks left out."""
    column = {label: place for place, label in enumerate(labels.ordered)}
    counts = np.zeros((len(column), len(column)))
    for review in reviews:
        said = labels.now.get(review.label, review.label)
        if review.truth in column and said in column:
            counts[column[review.truth], column[said]] += 1
    return counts


def _course(
    reviews: Sequence[AuditedReview], labels: TaskLabels, since: datetime, until: datetime
) -> list[StretchQuality]:
    found = []
    ends = until
    while ends > since:
        begins = ends - STRETCH
        within = [review for review in reviews if begins <= review.received_at < ends]
        audited = audited_quality(within, labels)
        if audited is not None and audited.labels >= LEAST_IN_STRETCH:
            found.append(StretchQuality(max(begins, since), ends, audited))
        ends = begins
    return found[::-1]
