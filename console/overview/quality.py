"""How good the classifier is: macro-F1 on audit labels, and between them what its probabilities promise.

Audit labels are the truth about the stream, since a random draw asked for them, but they are few and come
late. They are read together with the many stored predictions (`drift.audited`). Between them, calibrated
probabilities of each day's sample say what to expect (`drift.performance`).
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

from console.overview.samples import StreamSample, TaskLabels, to_arrays
from drift.audited import AuditAnswers, StoredPredictions, audited_performance, stored_predictions
from drift.performance import LEAST_LABELS, calibrate, expected_performance
from storage.queries.overview import AuditedReview

STRETCH = timedelta(days=7)
LEAST_IN_STRETCH = 5
"""A week with fewer audit labels has no point in the chart."""
_LEAST_EXPECTED = 30


@dataclass(frozen=True, slots=True)
class AuditedQuality:
    """Macro-F1 and accuracy by audit labels and stored predictions (:mod:`drift.audited`).

    Attributes:
        labels: How many audit labels there are.
        macro_f1: In [0, 1].
        low: Lower end of its 95 % interval.
        high: Upper end.
        accuracy: Share of right answers.
        accuracy_low: Lower end of its 95 % interval.
        accuracy_high: Upper end.
    """

    labels: int
    macro_f1: float
    low: float
    high: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float


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
    is_known = len(versions) == len(own) >= LEAST_LABELS
    calibration = calibrate(probabilities, truth, _weights(own)) if is_known else None

    def expected(day: StreamSample) -> float | None:
        if len(day.predicted) < _LEAST_EXPECTED:
            return None
        is_active = np.array([version == active_version for version in day.versions])
        promised = day.probabilities.copy()
        if calibration is not None and is_active.any():
            promised[is_active] = calibration.apply(promised[is_active])
        return expected_performance(promised, day.predicted).macro_f1

    return MeasuredQuality(
        audited_quality(own, labels, _stored(days, active_version)),
        tuple(_course(known, labels, days, days[0].begins if days else until, until)),
        tuple(expected(day) for day in days),
        0 if calibration is None else calibration.labels,
    )


def audited_quality(
    reviews: Sequence[AuditedReview], labels: TaskLabels, stored: StoredPredictions | None
) -> AuditedQuality | None:
    """Macro-F1 and accuracy of the stored predictions; None without labels.

    Args:
        reviews: Audited; those that an adapter of other labels answered are left out.
        labels: Of the task.
        stored: What was predicted of the stream that they were drawn from; None where that is not known.
    """
    known = set(labels.ordered)
    fitting = [review for review in reviews if set(labels.of_version.get(review.version, ())) == known]
    probabilities, predicted, _ = to_arrays(fitting, labels)
    truth = np.array([labels.ordered.index(review.truth) for review in fitting], np.int64)
    if not fitting:
        return None
    found = audited_performance(AuditAnswers(truth, predicted, probabilities, _weights(fitting)), stored)
    f1, accuracy = found.macro_f1, found.accuracy
    return AuditedQuality(found.labels, *astuple(f1), *astuple(accuracy))


def _weights(reviews: Sequence[AuditedReview]) -> npt.NDArray[np.float64]:
    return np.array([review.draw_weight for review in reviews], np.float64)


def _stored(days: Sequence[StreamSample], version: str | None = None) -> StoredPredictions | None:
    """The samples of some days together, each day by its number of records; None where they have no row.

    Args:
        days: Which.
        version: Only what this adapter predicted; None: every one.
    """
    sampled = [day for day in days if len(day.predicted)]
    if not sampled:
        return None
    of_a_row = [day.records / len(day.predicted) for day in sampled]
    weights = np.repeat(of_a_row, [len(day.predicted) for day in sampled])
    versions = np.concatenate([np.array(day.versions, np.str_) for day in sampled])
    rows = np.ones(len(versions), np.bool_) if version is None else versions == version
    rows &= weights > 0
    if not rows.any():
        return None
    probabilities = np.concatenate([day.probabilities for day in sampled])[rows]
    predicted = np.concatenate([day.predicted for day in sampled])[rows]
    return stored_predictions(probabilities, predicted, weights[rows])


def _course(
    reviews: Sequence[AuditedReview],
    labels: TaskLabels,
    days: Sequence[StreamSample],
    since: datetime,
    until: datetime,
) -> list[StretchQuality]:
    found = []
    ends = until
    while ends > since:
        begins = ends - STRETCH
        within = [review for review in reviews if begins <= review.received_at < ends]
        stored = _stored([day for day in days if begins <= day.begins < ends])
        audited = audited_quality(within, labels, stored)
        if audited is not None and audited.labels >= LEAST_IN_STRETCH:
            found.append(StretchQuality(max(begins, since), ends, audited))
        ends = begins
    return found[::-1]
