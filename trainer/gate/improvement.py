"""Whether the candidate is good enough by itself, and better than what it replaces."""

import numpy as np

from trainer.gate.bootstrap import resampled_sums
from trainer.gate.evidence import Evidence, Integers
from trainer.gate.randomization import better_by_chance
from trainer.gate.scores import score, tallies
from trainer.gate.settings import GateSettings
from trainer.gate.spending import alpha_of_attempt
from trainer.gate.verdict import IMPROVEMENT, Check


def above_floor(evidence: Evidence, settings: GateSettings) -> Check:
    """The check ``floor``: the candidate's metric reaches the least that is ever acceptable."""
    value = metric_of(evidence, evidence.candidate.argmax(axis=1), settings)
    return Check(
        "floor",
        value >= settings.floor,
        value,
        settings.floor,
        f"The candidate's {title(settings)} is {value:.3f}; the floor is {settings.floor:.3f}.",
    )


def beats_majority(evidence: Evidence, settings: GateSettings) -> Check:
    """The check ``majority``: the candidate does better than always saying the most frequent label."""
    value = metric_of(evidence, evidence.candidate.argmax(axis=1), settings)
    constant = majority(evidence)
    limit = metric_of(evidence, constant, settings)
    return Check(
        "majority",
        value > limit,
        value,
        limit,
        f"The candidate's {title(settings)} is {value:.3f}; always saying "
        f"{evidence.labels[constant[0]]} reaches {limit:.3f}.",
    )


def improves(evidence: Evidence, settings: GateSettings, attempts_before: int, seed: int) -> Check:
    """The check ``improvement``: the gain over the active adapter is more than chance.

    A first adapter is held against always saying the most frequent label. The check's value is the p-value,
    its limit what this attempt may spend.
    """
    level = alpha_of_attempt(attempts_before, settings.alpha, settings.spending_exponent)
    before = majority(evidence) if evidence.active is None else evidence.active.argmax(axis=1)
    gain, chance = better_by_chance(
        evidence.truth,
        before,
        evidence.candidate.argmax(axis=1),
        weights=evidence.row_weights,
        labels=len(evidence.labels),
        metric=settings.metric,
        level=level,
        seed=seed,
    )
    low, high = gain_interval(evidence, before, settings, seed)
    rival = f"always saying {evidence.labels[before[0]]}" if evidence.active is None else "the active adapter"
    detail = (
        f"The candidate's {title(settings)} is {100 * gain:+.1f} points ({100 * low:+.1f} to "
        f"{100 * high:+.1f}) from that of {rival} on the same {len(evidence.truth)} rows; chance alone does "
        f"as well with p = {chance:.2g}, and attempt {attempts_before + 1} asks for at most {level:.2g}."
    )
    return Check(IMPROVEMENT, gain > 0 and chance <= level, chance, level, detail)


def gain_interval(
    evidence: Evidence, before: Integers, settings: GateSettings, seed: int
) -> tuple[float, float]:
    """The 95 % interval of the gain by the paired bootstrap, for people: it decides nothing."""
    weights, labels = evidence.row_weights, len(evidence.labels)
    said = (before, evidence.candidate.argmax(axis=1))
    columns = np.hstack([tallies(evidence.truth, answers, labels) for answers in said]) * weights[:, None]
    sums = resampled_sums(np.hstack([columns, weights[:, None]]), settings.resamples, seed)
    old, new = np.split(sums[:, :-1], 2, axis=1)
    gains = score(new, sums[:, -1], settings.metric) - score(old, sums[:, -1], settings.metric)
    low, high = np.quantile(gains, (0.025, 0.975))
    return float(low), float(high)


def majority(evidence: Evidence) -> Integers:
    """int64 (rows): always the label that weighs most."""
    weighed = np.bincount(evidence.truth, evidence.row_weights, len(evidence.labels))
    return np.full(len(evidence.truth), weighed.argmax(), np.int64)


def metric_of(evidence: Evidence, said: Integers, settings: GateSettings) -> float:
    """The metric of these answers, int64 (rows), on the weighted rows."""
    weights = evidence.row_weights
    sums = weights @ tallies(evidence.truth, said, len(evidence.labels))
    return float(score(sums, float(weights.sum()), settings.metric))


def title(settings: GateSettings) -> str:
    """The metric's name in sentences."""
    return {"macro_f1": "macro-F1", "accuracy": "accuracy"}[settings.metric]
