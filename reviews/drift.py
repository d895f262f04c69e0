"""A drift report as it is kept: which windows were compared, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Verdict = Literal["stable", "drift", "unknown"]


@dataclass(frozen=True, slots=True)
class Windows:
    """What is compared; each names an evaluation, and none is computed twice. Times are scoring times, UTC.

    Attributes:
        task: The task.
        reference_since: When the adapter that serves was promoted.
        reference_until: The end of the reference, exclusive.
        since: The beginning of the window.
        until: Its end, exclusive.
    """

    task: str
    reference_since: datetime
    reference_until: datetime
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class DriftReport:
    """One evaluation.

    Attributes:
        windows: What was compared.
        reviews: How many reviews the window has.
        verdict: ``unknown`` where there are too few reviews to say.
        measures: Findings, course and expectations, as plain JSON values.
        attribution: What makes up the shift and what to label next, as plain JSON values.
        id: Its number; None before it is stored.
        created_at: When it was stored; None before that.
        alerted_at: When people were told of it; None where they were not, or not yet.
        wants_alert: Whether people are to be told of it, if it says drift.
        wants_training: Whether the trainer is to begin a run because of it, if it says drift.
    """

    windows: Windows
    reviews: int
    verdict: Verdict
    measures: Mapping[str, Any] = field(default_factory=dict)
    attribution: Mapping[str, Any] = field(default_factory=dict)
    id: int | None = None
    created_at: datetime | None = None
    alerted_at: datetime | None = None
    wants_alert: bool = False
    wants_training: bool = False

    @property
    def to_label(self) -> tuple[int, ...]:
        """Records to label next because of the drift, in this order."""
        return tuple(self.attribution.get("to_label", ()))
