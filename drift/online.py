"""The online detector: fed with batches of reviews, raises alarms."""

from dataclasses import dataclass

import numpy as np

from drift.false_alarms import Threshold, find_threshold, lasting
from drift.online_scores import FEATURES, STEP_REVIEWS, WIDTHS, Binned, Binning, scores
from drift.rows import Floats, Integers, Rows
from drift.settings import WatchSettings

_REFERENCE_PER_WIDTH = 2

TEXT_FEATURES = frozenset({"text length", "unknown words"})


@dataclass(frozen=True, slots=True)
class Alarm:
    """The stream has left its reference.

    Attributes:
        after_reviews: How many reviews the detector had seen.
        feature: What moved most.
        width: How many reviews the most telling window has: the change is about so long ago.
        strengths: For each feature, its score as a multiple of what raises an alarm.
    """

    after_reviews: int
    feature: str
    width: int
    strengths: dict[str, float]

    @property
    def kind(self) -> str:
        """``texts`` where texts of the same class are different ones, else ``classes``."""
        return "texts" if any(self.strengths[name] >= 1 for name in TEXT_FEATURES) else "classes"


class Detector:
    """Watches a stream of reviews against a reference.

    Args:
        reference: The reviews since the active adapter was promoted.
        settings: The false-alarm rate, persistence and cool-down.
        seed: Of the drawing that finds the threshold.
        binning: The reference as bins, where it was made already.
        threshold: The threshold, where it was found already.
    """

    def __init__(
        self,
        reference: Rows,
        settings: WatchSettings,
        seed: int = 0,
        binning: Binning | None = None,
        threshold: Threshold | None = None,
    ) -> None:
        self._binning = binning or Binning(reference)
        self._settings = settings
        # Of a window wider than its reference, only the reference's own luck would be measured.
        widths = tuple(width for width in WIDTHS if width <= len(reference) / _REFERENCE_PER_WIDTH)
        self._widths = widths or WIDTHS[:1]
        self._persistence_steps = max(1, settings.persistence_reviews // STEP_REVIEWS)
        self._expectation = self._binning.expectation(np.arange(len(reference)))
        self._threshold = threshold or find_threshold(
            self._binning,
            self._widths,
            average_run_length=settings.average_run_length,
            persistence_steps=self._persistence_steps,
            streams=settings.calibration_streams,
            seed=seed,
        )
        self.forget()

    def forget(self) -> None:
        """Begin again with an empty stream and the same reference."""
        self.seen = self._silent_until = 0
        self._latest = self._binning.reference.take(np.zeros(0, np.int64))

    @property
    def threshold(self) -> Threshold:
        """What scores are held against."""
        return self._threshold

    def be_silent(self) -> None:
        """Begin with a cool-down: an alarm was raised just before."""
        self._silent_until = self.seen + self._settings.cool_down_reviews

    def update(self, rows: Rows) -> list[Alarm]:
        """The alarms of the next reviews of the stream; mostly none."""
        return self.update_binned(self._binning.of(rows))

    def update_binned(self, fresh: Binned) -> list[Alarm]:
        """As :meth:`update`, for reviews that are bins already."""
        known = self._latest.bins.shape[1]
        before, self.seen = self.seen, self.seen + fresh.bins.shape[1]
        stream = self._latest.then(fresh)
        # Steps lie at fixed places of the stream: how it is cut into batches changes nothing.
        first = before - before % STEP_REVIEWS - (self._persistence_steps - 2) * STEP_REVIEWS
        places = np.arange(max(STEP_REVIEWS, first), self.seen + 1, STEP_REVIEWS) - before + known
        kept = self._widths[-1] + self._persistence_steps * STEP_REVIEWS
        self._latest = stream.take(np.arange(max(0, stream.bins.shape[1] - kept), stream.bins.shape[1]))
        if len(places) < self._persistence_steps:
            return []
        strengths = self._threshold.strengths(scores(stream, self._expectation, self._widths, places))
        return self._alarms(lasting(strengths, self._persistence_steps), places, before - known)

    def _alarms(self, strengths: Floats, places: Integers, start: int) -> list[Alarm]:
        found = []
        ends = places[self._persistence_steps - 1 :] + start  # reviews seen by the end of each step
        for step in np.flatnonzero(strengths.max(axis=(0, 1)) >= 1):
            after = int(ends[step])
            if after < self._silent_until:
                continue
            self._silent_until = after + self._settings.cool_down_reviews
            found.append(self._alarm(strengths[..., step], after))
        return found

    def _alarm(self, strengths: Floats, after: int) -> Alarm:
        feature, width = np.unravel_index(strengths.argmax(), strengths.shape)
        by_feature = dict(zip(FEATURES, strengths.max(axis=1).tolist(), strict=True))
        return Alarm(after, FEATURES[feature], self._widths[width], by_feature)
