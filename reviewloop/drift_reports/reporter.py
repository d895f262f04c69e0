"""Makes drift reports of stored rows: each pair of windows is compared once, and its report is stored."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from drift.evaluation import Evaluation, evaluate
from drift.rows import UNKNOWN, ReviewRows
from drift.settings import DriftSettings
from drift.strata import longest_season
from drift.summary import course, explain, summarise
from reviews.drift import ActiveAdapter, Course, DriftReport, Span, StoredReview, Windows
from reviews.errors import WrongUse
from reviews.slices import SliceShares, slice_of
from storage.drift_reports import DriftReportStore
from storage.windows import MOST_READ, WindowStore

_DAY = timedelta(days=1)
_BEHIND = timedelta(microseconds=1)
_MOST_STRETCHES = 48
_LEAST_AFTER_ALARM = 20
_AT_RANDOM = frozenset({"audit", "sample"})
_NEARLY_ALL = 0.99  # even where all are kept, non-finite embeddings are not
_WIDTHS = tuple(
    timedelta(seconds=seconds)
    for seconds in (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 86_400, 7 * 86_400, 28 * 86_400)
)


class Reporter:
    """Makes drift reports of one task; all methods raise `Unavailable` if the database does not answer.

    Args:
        windows: Reads the stored rows.
        reports: Stores the reports.
        settings: Sizes and rates.
        task: The task.
        shares: The size of the audit slice.
    """

    def __init__(
        self,
        windows: WindowStore,
        reports: DriftReportStore,
        settings: DriftSettings,
        task: str,
        shares: SliceShares,
    ) -> None:
        self._windows = windows
        self._reports = reports
        self._settings = settings
        self._task = task
        self._shares = shares

    def active(self) -> ActiveAdapter:
        """The active adapter.

        Raises:
            WrongUse: If none does.
        """
        found = self._windows.active(self._task)
        if found is None:
            raise WrongUse(
                f"No adapter is active for the task '{self._task}', so nothing was scored that could drift: "
                "'reviewloop adapters add DIR --activate'."
            )
        return found

    def reference(self, active: ActiveAdapter, before: datetime) -> Span:
        """The first reviews since the promotion, with which later ones are compared.

        Args:
            active: The adapter.
            before: The beginning of the later ones; a season counts if it has passed before that.
        """
        season = longest_season(before - active.activated_at, self._settings.reference_days)
        return self._windows.first_reviews(active, self._settings.reference_reviews, season)

    def report(
        self,
        since: datetime | None = None,
        until: datetime | None = None,
        alarm: dict[str, Any] | None = None,
        *,
        reference: tuple[datetime | None, datetime | None] = (None, None),
        wants_alert: bool = False,
        wants_training: bool = False,
    ) -> DriftReport:
        """The report of a window; the stored one where the same windows were compared before.

        Args:
            since: The beginning of the window, moved to the end of the reference where it is before that;
                None for a day before the end of the window, or more where a day has too few reviews.
            until: The end of the window; None for the last review that was scored.
            alarm: What the online detector found, if it asks; the verdict is then drift.
            reference: Beginning and end of the reviews to compare with; None for the promotion, and for as
                many reviews from there as the settings say.
            wants_alert: Whether to send an alert if the verdict is drift.
            wants_training: Whether to request a training run if the verdict is drift.

        Raises:
            WrongUse: If no adapter is active, or the window is empty.
        """
        active = self.active()
        windows = self._windows_of(active, since, until, reference)
        found = self._reports.find(windows) or self._evaluate(active, windows, alarm)
        return self._reports.add(replace(found, wants_alert=wants_alert, wants_training=wants_training))

    def _windows_of(
        self,
        active: ActiveAdapter,
        since: datetime | None,
        until: datetime | None,
        asked: tuple[datetime | None, datetime | None],
    ) -> Windows:
        end = until or self._end(active)
        if since is not None and end < since:
            raise WrongUse(f"The window ends ({end:%Y-%m-%d %H:%M:%S}) before it begins.")
        reference = self._reference_asked_for(active, since or end - _DAY, *asked)
        if until is not None and end < reference.until:
            raise WrongUse(
                f"The window ends ({end:%Y-%m-%d %H:%M:%S}) before the reference does "
                f"({reference.until:%Y-%m-%d %H:%M:%S}): the window and the reference cannot overlap."
            )
        since = max(reference.until, since or self._beginning(active, reference.until, end))
        return Windows(self._task, reference.since, reference.until, since, end)

    def _reference_asked_for(
        self, active: ActiveAdapter, before: datetime, since: datetime | None, until: datetime | None
    ) -> Span:
        begins = since or active.activated_at
        if until is None:
            return self.reference(replace(active, activated_at=begins), before)
        if until <= begins:
            raise WrongUse(
                f"The reference ends ({until:%Y-%m-%d %H:%M:%S}) before it begins "
                f"({begins:%Y-%m-%d %H:%M:%S}): give --reference-since and --reference-until in order."
            )
        return Span(active.task, active.adapter_id, begins, until)

    def _beginning(self, active: ActiveAdapter, earliest: datetime, until: datetime) -> datetime:
        """A day before the end, or further back where a day has too few reviews."""
        behind = Span(self._task, active.adapter_id, earliest, until)
        enough = self._windows.last_reviews(behind, self._settings.least_reviews)
        return min(until - _DAY, enough or earliest)

    def rows(self, active: ActiveAdapter, span: Span) -> ReviewRows:
        """The reviews of a span, or as many of them as a report looks at."""
        reviews = self._windows.sample(span, self._settings.sample_reviews)
        return self.as_rows(reviews, active)

    def as_rows(self, reviews: Iterable[StoredReview], active: ActiveAdapter) -> ReviewRows:
        """Stored reviews as columns for the measures."""
        return to_rows(reviews, active.labels, self._shares, active.called)

    def _end(self, active: ActiveAdapter) -> datetime:
        last = self._windows.last_scored(active)
        return active.activated_at if last is None else last + _BEHIND

    def _evaluate(self, active: ActiveAdapter, windows: Windows, alarm: dict[str, Any] | None) -> DriftReport:
        span = Span(self._task, active.adapter_id, windows.since, windows.until)
        before = replace(span, since=windows.reference_since, until=windows.reference_until)
        reference, window = self.rows(active, before), self.rows(active, span)
        # After an alarm the question is not whether but what, and few reviews are enough for that.
        found = evaluate(reference, window, self._settings, _LEAST_AFTER_ALARM if alarm else None)
        measures = summarise(found, reference, window)
        measures |= {
            "adapter": active.version,
            "alarm": alarm,
            "labels": list(active.labels),
            "least_reviews": self._settings.least_reviews,
            **self._course(span, before, found, reference, window),
        }
        reviews = self._windows.count(span)
        measures["is_estimate"] = reviews >= MOST_READ
        verdict = "drift" if alarm else found.verdict
        return DriftReport(windows, reviews, verdict, measures, explain(found, window))

    def _course(
        self, span: Span, before: Span, found: Evaluation, reference: ReviewRows, window: ReviewRows
    ) -> dict[str, Any]:
        """By stretches of time from the promotion to the end of the window."""
        whole = replace(span, since=before.since)
        width = stretch_width(whole.until - whole.since)
        sums = self._windows.course(whole, width)
        if not sums:
            return {"course": [], "stretch_seconds": width.total_seconds()}
        starts = sorted({to_microseconds(item.starts_at) for item in sums})
        looked_at = (
            course(found, reference, window, np.array(starts), int(width / _BEHIND)) if len(reference) else []
        )
        by_start = {item["starts_at"]: item for item in looked_at}
        stretches = _stretches(sums)
        return {
            "course": [{**by_start.get(item["starts_at"], {}), **item} for item in stretches],
            "stretch_seconds": width.total_seconds(),
        }


def stretch_width(whole: timedelta) -> timedelta:
    """The shortest usual width (an hour, a day …) with at most 48 stretches."""
    longest = _WIDTHS[-1]
    several = longest * int(np.ceil(whole / (_MOST_STRETCHES * longest)))
    return next((width for width in _WIDTHS if whole <= _MOST_STRETCHES * width), several)


def _stretches(sums: Sequence[Course]) -> list[dict[str, Any]]:
    """One mapping for each stretch of time."""
    found: dict[datetime, list[Course]] = {}
    for item in sums:
        found.setdefault(item.starts_at, []).append(item)
    return [_stretch(starts_at, items) for starts_at, items in sorted(found.items())]


def _stretch(starts_at: datetime, items: Sequence[Course]) -> dict[str, Any]:
    reviews = sum(item.reviews for item in items)
    return {
        "starts_at": starts_at.astimezone(UTC).isoformat(),
        "reviews": reviews,
        "confidence": sum(item.confidence * item.reviews for item in items) / reviews,
        "characters": sum(item.characters * item.reviews for item in items) / reviews,
        "classes": {item.label: item.reviews / reviews for item in items},
    }


def to_rows(
    reviews: Iterable[StoredReview],
    labels: Sequence[str],
    shares: SliceShares,
    called: Sequence[str] = (),
) -> ReviewRows:
    """Stored reviews as columns; embeddings of nearly all reviews, or of those chosen at random.

    Args:
        reviews: As many as fit into memory.
        labels: The adapter's labels, in the order of the probabilities.
        shares: The size of the audit slice.
        called: What people call each label now; empty: the same. The truth of a review is unknown where its
            label is no label of the adapter's, or several.
    """
    found, names = list(reviews), called or labels
    place = {name: number for number, name in enumerate(names) if names.count(name) == 1}
    embedded = [row for row, review in enumerate(found) if review.vector is not None]
    # Embeddings of uncertain reviews are kept too: with them the sample would not be random.
    if len(embedded) < _NEARLY_ALL * len(found):
        embedded = [row for row in embedded if found[row].kept in _AT_RANDOM]
    return ReviewRows(
        tuple(labels),
        np.array([review.record for review in found], np.int64),
        np.array([to_microseconds(review.scored_at) for review in found], np.int64),
        np.array([int(review.published_at.timestamp()) for review in found], np.int64),
        [review.text for review in found],
        [review.product for review in found],
        [review.source for review in found],
        np.array([review.probabilities for review in found], np.float32).reshape(-1, len(labels)),
        np.array([place.get(review.truth or "", UNKNOWN) for review in found], np.int64),
        np.array([slice_of(review.review_id, shares) == "audit" for review in found], np.bool_),
        _matrix([found[row].vector or b"" for row in embedded]),
        np.array(embedded, np.int64),
        np.array([review.draw_weight for review in found], np.float64),
    )


def to_microseconds(moment: datetime) -> int:
    """Microseconds since 1970, exactly."""
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond


def _matrix(vectors: list[bytes]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """float32 (rows, hidden) from little-endian float16 rows of the same length."""
    if not vectors:
        return np.zeros((0, 0), np.float32)
    return np.frombuffer(b"".join(vectors), "<f2").reshape(len(vectors), -1).astype(np.float32)
