"""The drift detector beside the simulated runs.

It looks at what the active model says of the rows as they come. As in service, its reference is the first
reviews that the active model scored since its promotion, and a promotion begins a new one. The first model
scores the backlog: its first rows are the reference, and the others are watched. Reviews have no product and
no time here: all are alike.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from classifier.calibration import Floats
from drift.online import Alarm, Detector, Threshold
from drift.rows import UNKNOWN, ReviewRows
from drift.settings import WatchSettings
from trainer.simulation.stream import Indices

Detect = Callable[[ReviewRows], Detector]
"""Makes a detector of a reference."""


class Detectors:
    """Makes detectors; the threshold of a reference is found once, however many strategies share it."""

    def __init__(self, settings: WatchSettings) -> None:
        self._settings = settings
        self._thresholds: dict[str, Threshold] = {}

    def __call__(self, reference: ReviewRows) -> Detector:
        """A detector with this reference, of the same stream as all others."""
        content = reference.records.tobytes() + reference.probabilities.tobytes()
        key = hashlib.sha256(content).hexdigest()
        detector = Detector(reference, self._settings, threshold=self._thresholds.get(key))
        self._thresholds[key] = detector.threshold
        return detector


class DriftFollower:
    """Follows the reviews of one strategy and seed."""

    def __init__(
        self, texts: Sequence[str], labels: Sequence[str], reference_rows: int, detect: Detect
    ) -> None:
        self._texts = texts
        self._labels = labels
        self._reference_rows = reference_rows
        self._detect = detect
        self.begin()

    def begin(self) -> None:
        """Begin a new reference with the next reviews: another model is active."""
        self._detector: Detector | None = None
        self._places = self._rows = np.empty(0, np.int64)
        self._said = np.empty((0, len(self._labels)))

    def see(self, places: Indices, rows: Indices, said: Floats) -> dict[str, Any]:
        """How many of the next reviews were held against a reference, and the alarms; ready for JSON.

        Args:
            places: int64 (reviews), rising: how many had come before each.
            rows: int64 (reviews): which rows of the stream they are.
            said: float64 (reviews, labels), what the active model says of them.
        """
        self._places = np.concatenate((self._places, places))
        self._rows = np.concatenate((self._rows, rows))
        self._said = np.concatenate((self._said, said))
        if self._detector is None:
            if len(self._rows) < self._reference_rows:
                return {"watched": 0, "alarms": []}
            self._detector = self._detect(self._scored(slice(self._reference_rows)))
        seen = self._reference_rows + self._detector.seen
        alarms = self._detector.update(self._scored(slice(seen, None)))
        return {"watched": len(self._rows) - seen, "alarms": [self._raised(alarm) for alarm in alarms]}

    def _raised(self, alarm: Alarm) -> dict[str, Any]:
        """How many reviews had come by the alarm, and before its reference began; what moved."""
        last = self._places[self._reference_rows + alarm.after_reviews - 1]
        return {
            "after": int(last) + 1,
            "reference_after": int(self._places[0]),
            "kind": alarm.kind,
            "feature": alarm.feature,
        }

    def _scored(self, part: slice) -> ReviewRows:
        rows = self._rows[part]
        none, nothing = np.zeros(len(rows), np.int64), [None] * len(rows)
        return ReviewRows(
            classes=self._labels,
            records=rows,
            scored=none,
            published=none,
            texts=[self._texts[row] for row in rows],
            products=nothing,
            sources=nothing,
            probabilities=self._said[part].astype(np.float32),
            truth=np.full(len(rows), UNKNOWN, np.int64),
            audited=np.zeros(len(rows), np.bool_),
        )
