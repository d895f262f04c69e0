"""The online detector: fed with batches of reviews, raises alarms at a stated rate of false ones.

Its threshold is what chance reaches once in so many reviews. To find it, the detector plays on streams drawn
from its own reference, in blocks of neighbours so that bursts stay bursts (Künsch: The jackknife and the
bootstrap for general stationary observations, Annals of Statistics 1989), with an expectation made of a
bootstrap sample of the same reference: so the threshold covers how little a short reference knows. The
highest scores of stretches of 1,000 reviews follow a Gumbel distribution (Gumbel: Statistics of Extremes,
1958), whose tail says what comes once in a million.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtri

from drift.online_scores import FEATURES, STEP_REVIEWS, WIDTHS, Binned, Binning, scores
from drift.rows import Floats, Integers, ReviewRows
from drift.settings import WatchSettings

_TEXT_FEATURES = frozenset({"text length", "unknown words"})
_REFERENCE_PER_WIDTH = 2
_STRETCH_REVIEWS = 1_000
_STRETCHES = 10  # of one played stream
_BLOCK_REVIEWS = 20
_USUAL = 0.02


@dataclass(frozen=True, slots=True)
class Alarm:
    """The stream has left its reference.

    Attributes:
        after_reviews: How many reviews the detector had seen.
        feature: What moved most.
        width: How many reviews the most telling window has: the change is about so long ago.
        strengths: For each feature, its score as a multiple of the alarm's limit.
    """

    after_reviews: int
    feature: str
    width: int
    strengths: dict[str, float]

    @property
    def kind(self) -> str:
        """``texts`` where texts of the same class are different ones, else ``classes``."""
        return "texts" if any(self.strengths[name] >= 1 for name in _TEXT_FEATURES) else "classes"


@dataclass(frozen=True, slots=True, eq=False)
class Threshold:
    """What scores are held against.

    Attributes:
        location: float64 (features, widths): what each score hardly exceeds in 1,000 reviews.
        scale: float64 (features, widths): how far it then goes.
        joint_location: The same of the greatest standardised score of all.
        joint_scale: The same.
        average_run_length: Reviews between two false alarms.
    """

    location: Floats
    scale: Floats
    joint_location: float
    joint_scale: float
    average_run_length: float

    @property
    def limit(self) -> float:
        """What the greatest standardised score exceeds once in the average run length."""
        rarity = -np.log(-np.log1p(-min(0.5, _STRETCH_REVIEWS / self.average_run_length)))
        return float(self.joint_location + self.joint_scale * rarity)

    def strengths(self, found: Floats) -> Floats:
        """float64 (features, widths, steps): scores as multiples of the alarm's limit."""
        return np.asarray((found - self.location[..., None]) / self.scale[..., None] / self.limit)


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
        reference: ReviewRows,
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

    def update(self, rows: ReviewRows) -> list[Alarm]:
        """The alarms of the next reviews of the stream; mostly none."""
        return self.update_binned(self._binning.of(rows))

    def update_binned(self, fresh: Binned) -> list[Alarm]:
        """As :meth:`update`, for reviews that are bins already."""
        known = self._latest.bins.shape[1]
        before, self.seen = self.seen, self.seen + fresh.bins.shape[1]
        stream = self._latest.then(fresh)
        # Steps are at fixed places of the stream: how it is cut into batches changes nothing.
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


def find_threshold(
    binning: Binning,
    widths: Sequence[int],
    *,
    average_run_length: float,
    persistence_steps: int,
    streams: int,
    seed: int,
) -> Threshold:
    """The threshold of a detector with this reference.

    Args:
        binning: The reference.
        widths: Its windows, in reviews.
        average_run_length: Reviews between two false alarms, on average.
        persistence_steps: How many steps in a row a score has to stay high.
        streams: How many streams of 10,000 reviews are played.
        seed: Of the drawing.
    """
    random = np.random.default_rng(seed)
    highest = np.concatenate(
        [_play(binning, widths, persistence_steps, random) for _ in range(streams)], axis=2
    )
    least = [_least(size) for size in binning.sizes]
    location, scale = (
        np.maximum(found, np.array([[floor[part]] for floor in least]))
        for part, found in enumerate(_gumbel(highest))
    )
    joint = ((highest - location[..., None]) / scale[..., None]).max(axis=(0, 1))
    joint_location, joint_scale = _gumbel(joint)
    return Threshold(location, scale, float(joint_location), float(joint_scale), average_run_length)


def lasting(values: Floats, steps: int) -> Floats:
    """The minimum over sliding windows along the last axis: a value that is high only briefly disappears.

    Args:
        values: float64 (…, all).
        steps: The width of a window.

    Returns:
        float64 (…, all - steps + 1).
    """
    windows = np.lib.stride_tricks.sliding_window_view(values, steps, axis=-1)
    return np.asarray(windows.min(axis=-1))


def _play(
    binning: Binning, widths: Sequence[int], persistence_steps: int, random: np.random.Generator
) -> Floats:
    """float64 (features, widths, stretches): the highest lasting score of each stretch of one stream."""
    rows = binning.reference.bins.shape[1]
    warm_up = max(widths)
    count = warm_up + _STRETCHES * _STRETCH_REVIEWS
    expectation = binning.expectation(_blocks(rows, rows, random))
    stream = binning.reference.take(_blocks(rows, count, random))
    steps = np.arange(warm_up, count + 1, STEP_REVIEWS)
    found = lasting(scores(stream, expectation, widths, steps), persistence_steps)
    kept = found[..., : found.shape[-1] // _STRETCHES * _STRETCHES]
    return np.asarray(kept.reshape(*kept.shape[:2], _STRETCHES, -1).max(axis=-1))


def _blocks(rows: int, count: int, random: np.random.Generator) -> Integers:
    """int64 (count): rows in blocks of neighbours, round the end."""
    starts = random.integers(rows, size=-(-count // _BLOCK_REVIEWS))
    drawn = (starts[:, None] + np.arange(_BLOCK_REVIEWS)).ravel()[:count] % rows
    return np.asarray(drawn, np.int64)


def _least(bins: int) -> tuple[float, float]:
    """Location and scale that a chi-square of so many bins has at least.

    A feature that is the same in every reference review (no unknown word at all, say) has scores without any
    spread: the first review that differs would be an alarm. A chi-square's tail never falls faster than
    exp(-x / 2).
    """
    freedom = max(1, bins - 1)
    return float((chdtri(freedom, _USUAL) - freedom) / (2 * freedom) ** 0.5), 2 / (2 * freedom) ** 0.5


def _gumbel(highest: Floats) -> tuple[Floats, Floats]:
    """Location and scale by the method of moments, along the last axis."""
    scale = np.maximum(1e-9, highest.std(axis=-1) * 6**0.5 / np.pi)
    return np.asarray(highest.mean(axis=-1) - np.euler_gamma * scale), np.asarray(scale)
