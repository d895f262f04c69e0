"""The gate: every check on one candidate. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainer.gate.evidence import Booleans, Evidence, Floats, Integers
from trainer.gate.statistics import (
    alpha_of_attempt,
    better_by_chance,
    chance_of_sum,
    resampled_sums,
    score,
    tallies,
)
from trainer.gate.verdict import IMPROVEMENT, Check, Verdict
from trainer.settings import GateSettings

RECALL, AUDIT = "recall", "audit"
_NOUNS = {RECALL: "class", AUDIT: "random sample"}
_BINS = 15
_TINY = 1e-12
_LEAST_PROBABILITY = 1e-7
_SEEN_ERASED = "The active adapter has seen a review that was erased and has to be replaced"


def judge(
    evidence: Evidence,
    settings: GateSettings,
    *,
    attempts_before: int,
    seed: int,
    is_replacement: bool = False,
    common: Evidence | None = None,
) -> Verdict:
    """Whether the candidate may replace the active adapter, and why.

    Where the labels of the task changed, the candidate has to reach the floor and beat the majority on the
    new ones, and must not be worse on what both adapters know: that the old adapter cannot give the new
    labels is reason enough to replace it.

    Args:
        evidence: Both adapters' probabilities for held-out rows; for those of cross-checks, what is said
            instead of the candidate's is what fits without them say.
        settings: How strict to be.
        attempts_before: Verdicts on this task since the last promotion that compared adapters
            (:attr:`Verdict.is_attempt`). New labels and rollbacks do not start the count again.
        seed: Of what is drawn; the same seed gives the same verdict.
        is_replacement: Whether the active adapter has to go, because it has seen a review that was erased:
            then the candidate need not be better, only not worse.
        common: Where the active adapter has other labels: both on the classes that both know; ``evidence``
            is then of the candidate alone.
    """
    rows = enough_rows(evidence, settings)
    if not rows.passed:
        return Verdict((rows,))
    compared = evidence if common is None else common
    checks = [
        rows,
        above_floor(evidence, settings),
        beats_majority(evidence, settings),
        replaces(compared, settings, seed, _SEEN_ERASED if common is None else _other_labels(common))
        if (is_replacement or common is not None) and compared.active is not None
        else improves(compared, settings, attempts_before, seed),
        calibrated(compared, settings, seed),
    ]
    if compared.active is not None:
        checks += [as_likely(compared, settings, seed), *nothing_regresses(compared, settings)]
    return Verdict(tuple(checks))


def enough_rows(evidence: Evidence, settings: GateSettings) -> Check:
    """The check ``rows``: how many rows there are, in all and of each label, and how many more are needed."""
    rows = len(evidence.truth)
    counts = np.bincount(evidence.truth, minlength=len(evidence.labels))
    missing = {
        label: settings.min_class_rows - int(count)
        for label, count in zip(evidence.labels, counts, strict=True)
        if count < settings.min_class_rows
    }
    lacking = max(settings.min_rows - rows, sum(missing.values()))
    if lacking <= 0:
        return Check(
            "rows", passed=True, value=rows, limit=settings.min_rows, detail=f"{rows} labelled rows."
        )
    classes = ", ".join(f"{count} of {label}" for label, count in missing.items())
    detail = (
        f"{lacking} more labels needed{f' ({classes})' if classes else ''}: {rows} labelled reviews "
        f"were held out from both adapters; the gate judges from {settings.min_rows} on, "
        f"{settings.min_class_rows} of each label."
    )
    return Check("rows", passed=False, value=rows, limit=settings.min_rows, detail=detail)


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


def _other_labels(common: Evidence) -> str:
    left_out = f"; {common.left_out} further rows have a label that only one knows" if common.left_out else ""
    return (
        f"The labels of the task changed, and both adapters know {', '.join(common.labels)}{left_out}; the "
        "active adapter has to be replaced"
    )


def replaces(evidence: Evidence, settings: GateSettings, seed: int, why: str = _SEEN_ERASED) -> Check:
    """The check ``replacement``, in place of ``improvement``: the candidate is not worse beyond chance.

    Its value is the upper end of the gain's interval. It compares no two adapters to find the better one, so
    that it takes nothing of the error budget.

    Raises:
        ValueError: Without an active adapter.
    """
    if evidence.active is None:
        raise ValueError("There is no active adapter to replace.")
    low, high = gain_interval(evidence, evidence.active.argmax(axis=1), settings, seed)
    detail = (
        f"{why}: the candidate's "
        f"{title(settings)} is {100 * low:+.1f} to {100 * high:+.1f} points from its, on the same "
        f"{len(evidence.truth)} rows."
    )
    return Check("replacement", high >= 0, high, 0.0, detail)


def gain_interval(
    evidence: Evidence, before: Integers, settings: GateSettings, seed: int
) -> tuple[float, float]:
    """The 95 % interval of the gain by the paired bootstrap, for people: it decides nothing."""
    weights, labels = evidence.row_weights, len(evidence.labels)
    said = (before, evidence.candidate.argmax(axis=1))
    columns = np.hstack([tallies(evidence.truth, predicted, labels) for predicted in said]) * weights[:, None]
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
    """The metric of these predicted labels, int64 (rows), on the weighted rows."""
    weights = evidence.row_weights
    sums = weights @ tallies(evidence.truth, said, len(evidence.labels))
    return float(score(sums, float(weights.sum()), settings.metric))


def title(settings: GateSettings) -> str:
    """The metric's name in sentences."""
    return {"macro_f1": "macro-F1", "accuracy": "accuracy"}[settings.metric]


def calibrated(evidence: Evidence, settings: GateSettings, seed: int) -> Check:
    """The check ``calibration``: the expected calibration error does not rise beyond tolerance and chance.

    A first adapter, which replaces none, is held against ``max_calibration_error``.
    """
    candidate = calibration_gaps(evidence, evidence.candidate)
    error = _calibration_error(candidate.sum(axis=0), len(candidate))
    if evidence.active is None:
        limit = settings.max_calibration_error
        detail = f"The candidate's calibration error is {error:.3f}; a first adapter's may be {limit:.3f}."
        return Check("calibration", bool(error <= limit), float(error), limit, detail)
    active = calibration_gaps(evidence, evidence.active)
    sums = resampled_sums(np.hstack([active, candidate]), settings.resamples, seed)
    before, after = np.split(sums, 2, axis=1)
    rises = _calibration_error(after, len(active)) - _calibration_error(before, len(active))
    old = _calibration_error(active.sum(axis=0), len(active))
    sentence = f"The calibration error goes from {old:.3f} to {error:.3f}"
    tolerance = settings.calibration_tolerance
    return _no_worse(
        "calibration", float(error - old), rises, tolerance, settings.calibration_alpha, sentence
    )


def as_likely(evidence: Evidence, settings: GateSettings, seed: int) -> Check:
    """The check ``likelihood``: the true labels' mean negative log-likelihood.

    It does not rise beyond tolerance and chance either. It sees what the calibration error cannot: few
    predictions that are wrong and very sure.

    Raises:
        ValueError: Without an active adapter.
    """
    if evidence.active is None:
        raise ValueError("There is no active adapter to compare with.")
    rows, weights = np.arange(len(evidence.truth)), evidence.row_weights
    old, new = (
        -weights * np.log(np.maximum(said[rows, evidence.truth], _LEAST_PROBABILITY))
        for said in (evidence.active, evidence.candidate)
    )
    rises = resampled_sums((new - old)[:, None], settings.resamples, seed)[:, 0] / len(rows)
    sentence = f"The mean negative log-likelihood goes from {old.mean():.3f} to {new.mean():.3f}"
    rise, tolerance = float(new.mean() - old.mean()), settings.likelihood_tolerance
    return _no_worse("likelihood", rise, rises, tolerance, settings.calibration_alpha, sentence)


def calibration_gaps(evidence: Evidence, said: Floats) -> Floats:
    """float64 (rows, bins): confidence less correctness of a row in the bin of its confidence, weighted.

    The expected calibration error is the mean of the bins' absolute sums, with the bins of
    :func:`classifier.calibration.expected_calibration_error`.
    """
    confidence = said.max(axis=1)
    gaps = np.zeros((len(said), _BINS))
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gaps[np.arange(len(said)), bins] = confidence - (said.argmax(axis=1) == evidence.truth)
    return gaps * evidence.row_weights[:, None]


def _calibration_error(sums: Floats, rows: int) -> Floats:
    return np.asarray(np.abs(sums).sum(axis=-1) / max(1, rows))


def _no_worse(  # noqa: PLR0917  one call a check
    name: str, rise: float, rises: Floats, tolerance: float, alpha: float, sentence: str
) -> Check:
    """Fails where the rise is more than the tolerance and nearly all resamples rise too."""
    certain = float(np.quantile(rises, alpha)) > 0
    passed = rise <= tolerance or not certain
    if rise <= tolerance:
        end = f"; {tolerance:.3f} more would be tolerated."
    else:
        doubt = "and not by chance" if certain else "but possibly by chance"
        end = f": more than the tolerated {tolerance:.3f}, {doubt}."
    return Check(name, passed, rise, tolerance, sentence + end)


def nothing_regresses(evidence: Evidence, settings: GateSettings) -> list[Check]:
    """The checks ``recall``, ``audit`` and one for each kind of segment.

    A part regresses where it loses more than the tolerance and the sign test rules out chance at a level
    which holds for all parts of all these checks together (:func:`level_of_each`). Parts count their rows
    unweighted, but for the audit rows, which were drawn with unequal chances.

    Raises:
        ValueError: Without an active adapter.
    """
    parts = _parts(evidence, settings)
    level = level_of_each([part.least_chance for part in parts], settings.regression_alpha)
    names = (RECALL, AUDIT, *evidence.segments)
    return [_check(name, [part for part in parts if part.check == name], level, settings) for name in names]


def level_of_each(least_chances: Sequence[float], alpha: float) -> float:
    """The level at which each test is made so that any of them errs with a chance of at most alpha.

    Bonferroni's, but tests that could not reach it, having too few differing rows, do not count: so
    hundreds of small products do not blunt the others. Tarone: A modified Bonferroni method for discrete
    data (Biometrics 1990).
    """
    count = 1
    while sum(chance <= alpha / count for chance in least_chances) > count:
        count += 1
    return alpha / count


@dataclass(frozen=True)
class Part:
    """What happened to one part of the rows.

    Attributes:
        check: The check it belongs to.
        name: The class or the segment.
        rows: Its rows.
        losses: Rows that the active adapter has right and the candidate wrong.
        wins: The other way round.
        drop: How much accuracy it loses, as a share; negative where it gains.
        chance: How often so many losses come by chance: the exact sign test.
    """

    check: str
    name: str
    rows: int
    losses: int
    wins: int
    drop: float
    chance: float

    @property
    def least_chance(self) -> float:
        """The smallest value that ``chance`` could have had with so many differing rows."""
        return float(0.5 ** (self.losses + self.wins))


def _parts(evidence: Evidence, settings: GateSettings) -> list[Part]:
    if evidence.active is None:
        raise ValueError("There is no active adapter to compare with.")
    right = evidence.candidate.argmax(axis=1) == evidence.truth
    was_right = evidence.active.argmax(axis=1) == evidence.truth
    lost, won = was_right & ~right, right & ~was_right

    def part(check: str, name: str, rows: Booleans, weights: Floats) -> Part:
        losses, wins = weights[lost & rows], weights[won & rows]
        drop = float(losses.sum() - wins.sum()) / max(_TINY, float(weights[rows].sum()))
        return Part(check, name, int(rows.sum()), len(losses), len(wins), drop, chance_of_sum(losses, wins))

    alike = np.ones(len(evidence.truth))
    drawn = alike if evidence.draw_weights is None else evidence.draw_weights
    parts = [
        part(RECALL, label, evidence.truth == index, alike) for index, label in enumerate(evidence.labels)
    ]
    if evidence.is_audit.any():
        parts.append(part(AUDIT, "audit reviews", evidence.is_audit, drawn))
    for kind, values in evidence.segments.items():
        of_row = np.array(values, dtype=np.str_)
        names, counts = np.unique(of_row, return_counts=True)
        large = names[(counts >= settings.min_slice_rows) & (names != "")]
        parts += [part(kind, str(name), of_row == name, alike) for name in large]
    return parts


def _check(name: str, parts: Sequence[Part], level: float, settings: GateSettings) -> Check:
    tolerance, noun = settings.regression_tolerance, _NOUNS.get(name, name)
    if not parts:
        detail = f"No {noun} has enough labelled rows to be judged on its own."
        return Check(name, passed=True, value=0.0, limit=tolerance, detail=detail)
    worse = [part for part in parts if part.drop > tolerance and part.chance <= level]
    worst = max(worse or parts, key=lambda part: part.drop)
    if worse:
        sentence = "; ".join(_described(part) for part in sorted(worse, key=lambda part: -part.drop))
        detail = f"Worse, and not by chance: {sentence}."
    else:
        detail = f"No {noun} is worse beyond tolerance and chance; the least good: {_described(worst)}."
    return Check(name, not worse, worst.drop, tolerance, detail)


def _described(part: Part) -> str:
    return (
        f"{part.name} {-100 * part.drop + 0.0:+.1f} points on {part.rows} rows "
        f"({part.losses} lost, {part.wins} won, p = {part.chance:.2g})"
    )
