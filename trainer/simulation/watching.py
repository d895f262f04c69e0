"""The drift watch beside the nights: the online detector over what comes, as the active model scores it.

As in service, the reference is the first reviews that the active model scored since its promotion, never what
it was fitted on, and a promotion begins a new one. What serves before the first night scores the backlog: the
first rows of the backlog are its reference, and the others are watched. Reviews have no product and no time
here: all are alike.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from classifier.calibration import Floats
from drift.online import Alarm, Detector, Threshold
from drift.rows import UNKNOWN, Rows
from drift.settings import WatchSettings
from trainer.simulation.stream import Indices

Detect = Callable[[Rows], Detector]
"""Makes a detector of a reference."""


class Detectors:
    """Makes detectors; the threshold of a reference is found once, however many strategies share it.

    Args:
        settings: The false-alarm rate, persistence and cool-down.
    """

    def __init__(self, settings: WatchSettings) -> None:
        self._settings = settings
        self._thresholds: dict[str, Threshold] = {}

    def __call__(self, reference: Rows) -> Detector:
        """A detector with this reference, of the same stream as all others."""
        content = reference.records.tobytes() + reference.probabilities.tobytes()
        key = hashlib.sha256(content).hexdigest()
        detector = Detector(reference, self._settings, threshold=self._thresholds.get(key))
        self._thresholds[key] = detector.threshold
        return detector


class Watch:
    """Follows the reviews of one strategy and seed.

    Args:
        texts: Of all rows of the stream.
        labels: Names of the classes.
        reference_rows: How many rows since a promotion are the reference.
        detect: Makes a detector of it.
    """

    def __init__(
        self, texts: Sequence[str], labels: Sequence[str], reference_rows: int, detect: Detect
    ) -> None:
        self._texts = texts
        self._labels = labels
        self._reference_rows = reference_rows
        self._detect = detect
        self.begin()

    def begin(self) -> None:
        """Begin a new reference with the next reviews: another model serves."""
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

    def _scored(self, part: slice) -> Rows:
        rows = self._rows[part]
        none, nothing = np.zeros(len(rows), np.int64), [None] * len(rows)
        return Rows(
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
