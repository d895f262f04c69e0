"""Which score of the online detector is so high that chance reaches it once in so many reviews.

The detector plays on streams drawn from its own reference, in blocks of neighbours so that bursts stay bursts
(Künsch: The jackknife and the bootstrap for general stationary observations, Annals of Statistics 1989), with
an expectation made of a bootstrap sample of the same reference: so the threshold covers how little a short
reference knows. The highest scores of stretches of 1,000 reviews follow a Gumbel distribution (Gumbel:
Statistics of Extremes, 1958), whose tail says what comes once in a million.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from drift.online_scores import STEP_REVIEWS, Binning, scores
from drift.rows import Floats, Integers

_STRETCH_REVIEWS = 1_000
_STRETCHES = 10  # of one played stream
_BLOCK_REVIEWS = 20
_USUAL = 0.02
_EULER = 0.5772156649


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
        """float64 (features, widths, steps): scores as multiples of what raises an alarm; 1 is the limit."""
        return np.asarray((found - self.location[..., None]) / self.scale[..., None] / self.limit)


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
        average_run_length: How many reviews lie between two false alarms, on average.
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
    """The least of each so many values in a row along the last axis: what is high only for a moment is not.

    Args:
        values: float64 (…, all).
        steps: How many in a row.

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
    return float((chi2.isf(_USUAL, freedom) - freedom) / (2 * freedom) ** 0.5), 2 / (2 * freedom) ** 0.5


def _gumbel(highest: Floats) -> tuple[Floats, Floats]:
    """Location and scale by the method of moments, along the last axis."""
    scale = np.maximum(1e-9, highest.std(axis=-1) * 6**0.5 / np.pi)
    return np.asarray(highest.mean(axis=-1) - _EULER * scale), np.asarray(scale)
