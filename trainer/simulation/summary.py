"""Results in numbers: learning curves over seeds, labels saved, cost and drift alarms of each strategy. Pure.

Efron, Tibshirani: An Introduction to the Bootstrap (1993), for the intervals of labels; seeds are resampled,
and both strategies' curves of a seed stay together, as they share its rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from statistics import median
from typing import Any, Literal

import numpy as np

from classifier.calibration import Floats
from trainer.simulation.experiment import RANDOM

_RESAMPLES = 2000
_ROUNDING = 1e-9  # a mean over the same numbers in another order
_DIGITS = 4
Against = Literal["labels", "annotator_seconds"]
"""What macro-F1 is held against: labels, or the seconds that annotators need for them."""


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """A measure of one strategy, of each seed.

    Attributes:
        labels: float64 (nights + 1): labels spent, or seconds of annotators; night 0 first.
        values: float64 (seeds, nights + 1).
    """

    labels: Floats
    values: Floats

    @property
    def mean(self) -> Floats:
        """float64 (nights + 1)."""
        return np.asarray(self.values.mean(axis=0))


@dataclass(frozen=True, slots=True)
class Saving:
    """Labels that a strategy needs to reach what random reaches at its end.

    Attributes:
        share: Of random's labels; infinite where it never does.
        low: End of the 95 % interval over seeds.
        high: The other end; infinite where more than 2.5 % of the resamples never do.
    """

    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Alarms:
    """Of all nights and seeds of one strategy.

    Attributes:
        watched: Reviews that were held against a reference, of all seeds.
        false: Alarms, of all seeds, between which and the beginning of their reference no other file began.
        delays: Rising, one for each change of file and seed: how many reviews of the new file had come by the
            first alarm about it; infinite where there was none before the next change, or the end.
    """

    watched: int
    false: int
    delays: tuple[float, ...]

    @property
    def delay(self) -> tuple[float, float, float] | None:
        """Median, least and greatest of the delays; None where the stream never changed its file."""
        return (median(self.delays), self.delays[0], self.delays[-1]) if self.delays else None


@dataclass(frozen=True, slots=True)
class Cost:
    """Of all nights and seeds of one strategy.

    Attributes:
        labels: Answers to what the strategy asked, a seed.
        fits: Fits, a seed.
        fit_seconds: Seconds of a fit, on average.
        promotions: Candidates that were promoted, a seed.
        worse: Promotions, of all seeds, after which macro-F1 on the held-back rows was lower.
        worse_beyond_chance: Of these, those whose whole 95 % interval is below zero.
    """

    labels: float
    fits: float
    fit_seconds: float
    promotions: float
    worse: int
    worse_beyond_chance: int


@dataclass(frozen=True, slots=True)
class Summary:
    """A strategy in numbers.

    Attributes:
        strategy: Its name.
        seeds: Seeds whose nights are all there.
        start: Macro-F1 before the first night, mean over seeds.
        candidate: Macro-F1 of the last candidate, mean over seeds.
        candidate_half: Half of its 95 % interval.
        active: Macro-F1 of the active model at the end.
        saving: Labels for random's final macro-F1; None where there are no results of random.
        saved_seconds: The same with seconds of annotators; None as well.
        served: The same with labels, and the macro-F1 that the active model of each reached; None as well.
        below: Share of nights below random's curve by more than the interval; None as well.
        fallen: Nights after which the active models were worse than before by more than the interval.
        cost: What it took.
        alarms: Of the drift watch; None where there was none, in results of an older version.
    """

    strategy: str
    seeds: int
    start: float
    candidate: float
    candidate_half: float
    active: float
    saving: Saving | None
    saved_seconds: Saving | None
    served: Saving | None
    below: float | None
    fallen: int
    cost: Cost
    alarms: Alarms | None


def summarise(
    lines: Sequence[Mapping[str, Any]], strategies: Sequence[str], metric: str = "macro_f1"
) -> list[Summary]:
    """A summary for each strategy with a whole seed; lines of one experiment and kind of fit."""
    by_name = {name: [line for line in lines if line["strategy"] == name] for name in strategies}
    random = by_name.get(RANDOM, [])
    return [_summary(name, of, random, metric) for name, of in by_name.items() if of and len(whole_seeds(of))]


def condensed(lines: Sequence[Mapping[str, Any]], strategies: Sequence[str]) -> list[dict[str, Any]]:
    """A line of JSON for each strategy: its curves with their intervals over seeds, and its summary."""
    return [
        _condensed(row, [line for line in lines if line["strategy"] == row.strategy])
        for row in summarise(lines, strategies)
    ]


def whole_seeds(lines: Sequence[Mapping[str, Any]]) -> list[dict[int, Mapping[str, Any]]]:
    """The lines of each seed by their nights, seeds in order; seeds that are not done are left out."""
    seeds: dict[int, dict[int, Mapping[str, Any]]] = {}
    for line in lines:
        seeds.setdefault(line["seed"], {})[line["night"]] = line
    last = max((night for nights in seeds.values() for night in nights), default=0)
    return [nights for _, nights in sorted(seeds.items()) if len(nights) == last + 1]


def curves(
    lines: Sequence[Mapping[str, Any]], model: str, metric: str, against: Against = "labels"
) -> Curves:
    """The curves of seeds whose nights are all there; lines of one strategy.

    Args:
        lines: Of one strategy.
        model: ``candidate`` or ``active``.
        metric: Its measure.
        against: What is spent; seconds are the mean over seeds.
    """
    whole = whole_seeds(lines)
    last = len(whole[0]) - 1 if whole else 0
    values = [[nights[night][model][metric] for night in range(last + 1)] for nights in whole]
    spent = [[nights[night][against] for night in range(last + 1)] for nights in whole]
    table = (len(whole), last + 1)
    columns = np.array(spent, float).reshape(table).mean(axis=0) if whole else np.empty(0)
    return Curves(columns, np.array(values, float).reshape(table))


def half_width(values: Floats) -> Floats:
    """float64 (nights): half of the 95 % interval of the mean over seeds, float64 (seeds, nights).

    Infinite with a single seed: one run says nothing about another.
    """
    from scipy.stats import t as student

    seeds = len(values)
    if seeds < 2:
        return np.full(values.shape[1], np.inf)
    return np.asarray(student.ppf(0.975, seeds - 1) * values.std(axis=0, ddof=1) / np.sqrt(seeds))


def labels_needed(labels: Floats, values: Floats, target: float) -> float:
    """Where a curve first reaches the target, on straight lines between nights; infinite where it never does.

    Args:
        labels: float64 (nights), rising.
        values: float64 (nights).
        target: What is to be reached.
    """
    reached = np.flatnonzero(values >= target - _ROUNDING)
    if not len(reached):
        return float("inf")
    at = int(reached[0])
    if at == 0:
        return float(labels[0])
    share = (target - values[at - 1]) / (values[at] - values[at - 1])
    return float(labels[at - 1] + share * (labels[at] - labels[at - 1]))


def saving(strategy: Curves, random: Curves, seed: int = 0) -> Saving:
    """Labels needed for random's final mean, as a share of all that random spent after night 0."""
    start, spent = random.labels[0], random.labels[-1] - random.labels[0]

    def share(of: Floats, against: Floats) -> float:
        needed = labels_needed(strategy.labels, of.mean(axis=0), float(against[:, -1].mean()))
        return float((needed - start) / spent)

    seeds = len(random.values)
    drawn = np.random.default_rng(seed).integers(0, seeds, (_RESAMPLES, seeds))
    shares = [share(strategy.values[rows], random.values[rows]) for rows in drawn]
    low, high = np.quantile(shares, (0.025, 0.975), method="closest_observation")
    return Saving(share(strategy.values, random.values), float(low), float(high))


def nights_fallen(active: Curves) -> int:
    """Nights after which the mean is below that of the night before by more than the paired interval."""
    change = np.diff(active.values, axis=1)
    return int(np.sum(change.mean(axis=0) < -half_width(change)))


def nights_below(strategy: Curves, random: Curves) -> float:
    """Share of nights on which the mean is below random's by more than the paired difference's interval."""
    difference = (strategy.values - random.values)[:, 1:]
    return float(np.mean(difference.mean(axis=0) < -half_width(difference)))


def alarms(lines: Sequence[Mapping[str, Any]]) -> Alarms | None:
    """The alarms of seeds whose nights are all there, in lines of one strategy.

    An alarm is about the last change of file before it; it is false where its reference began after that.

    Returns:
        What was found; None where a line is of a version that did not watch.
    """
    seeds = [[nights[night] for night in sorted(nights) if night] for nights in whole_seeds(lines)]
    if not seeds or any("drift" not in line for nights in seeds for line in nights):
        return None
    found = [_of_seed([line["drift"] for line in nights]) for nights in seeds]
    return Alarms(
        watched=sum(one.watched for one in found),
        false=sum(one.false for one in found),
        delays=tuple(sorted(delay for one in found for delay in one.delays)),
    )


def _of_seed(nights: Sequence[Mapping[str, Any]]) -> Alarms:
    delays = {change: float("inf") for night in nights for change in night["changes"]}
    false = 0
    for alarm in (alarm for night in nights for alarm in night["alarms"]):
        change = max((place for place in delays if place < alarm["after"]), default=0)
        if change <= alarm["reference_after"]:
            false += 1
        else:
            delays[change] = min(delays[change], alarm["after"] - change)
    return Alarms(sum(night["watched"] for night in nights), false, tuple(delays.values()))


def cost(lines: Sequence[Mapping[str, Any]]) -> Cost:
    """The cost of these lines, of one strategy; the start (night 0) is no fit of the loop's."""
    seeds = len({line["seed"] for line in lines}) or 1
    fitted = [line for line in lines if line["night"] > 0]
    promoted = [line for line in fitted if line["promoted"]]
    return Cost(
        labels=sum(sum(line["tonight"]) for line in lines) / seeds,
        fits=len(fitted) / seeds,
        fit_seconds=sum(line["seconds"]["fit"] for line in fitted) / max(1, len(fitted)),
        promotions=len(promoted) / seeds,
        worse=sum(line["candidate"]["macro_f1"] < line["before"]["macro_f1"] for line in promoted),
        worse_beyond_chance=sum(line["change"][1] < 0 for line in promoted),
    )


def _condensed(row: Summary, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    candidate, active = (curves(lines, model, "macro_f1") for model in ("candidate", "active"))
    last = [line["classes"] for line in lines if line["labels"] == candidate.labels[-1]]
    return {
        "experiment": lines[0]["experiment"],
        "fit": lines[0]["fit"],
        "strategy": row.strategy,
        "seeds": row.seeds,
        "labels": candidate.labels.tolist(),
        "candidate_macro_f1": _rounded(candidate.mean),
        "half_width": _rounded(half_width(candidate.values)),
        "active_macro_f1": _rounded(active.mean),
        "annotator_seconds": _rounded(curves(lines, "active", "macro_f1", "annotator_seconds").labels),
        "share_of_randoms_labels": _shares(row.saving),
        "share_of_randoms_seconds": _shares(row.saved_seconds),
        "share_of_randoms_labels_served": _shares(row.served),
        "nights_below_random": row.below,
        "nights_fallen": row.fallen,
        "labels_by_class": _rounded(np.mean(last, axis=0)),
        "cost": {name: round(value, _DIGITS) for name, value in asdict(row.cost).items()},
        "drift": None if row.alarms is None else _drift(row.alarms),
    }


def _shares(saving: Saving | None) -> list[float | None] | None:
    return None if saving is None else _rounded(astuple(saving))


def _drift(found: Alarms) -> dict[str, Any]:
    return {
        "watched": found.watched,
        "false_alarms": found.false,
        "delays": _rounded(found.delays),
        "median_delay": None if found.delay is None else _rounded(found.delay)[0],
    }


def _rounded(values: Sequence[float] | Floats) -> list[float | None]:
    """Plain numbers; what is infinite, never reached or without an interval, is null in JSON."""
    return [round(float(value), _DIGITS) if np.isfinite(value) else None for value in values]


def _summary(
    name: str, lines: Sequence[Mapping[str, Any]], random: Sequence[Mapping[str, Any]], metric: str
) -> Summary:
    def pair(model: str, against: Against = "labels") -> tuple[Curves, Curves] | None:
        return _same_seeds(*(curves(of, model, metric, against) for of in (lines, random)))

    candidate, active = (curves(lines, model, metric) for model in ("candidate", "active"))
    compared = pair("candidate")
    return Summary(
        strategy=name,
        seeds=len(candidate.values),
        start=float(candidate.mean[0]),
        candidate=float(candidate.mean[-1]),
        candidate_half=float(half_width(candidate.values)[-1]),
        active=float(active.mean[-1]),
        saving=_saving(compared),
        saved_seconds=_saving(pair("candidate", "annotator_seconds")),
        served=_saving(pair("active")),
        below=None if compared is None else nights_below(*compared),
        fallen=nights_fallen(active),
        cost=cost(lines),
        alarms=alarms(lines),
    )


def _saving(pair: tuple[Curves, Curves] | None) -> Saving | None:
    return None if pair is None else saving(*pair)


def _same_seeds(curve: Curves, random: Curves) -> tuple[Curves, Curves] | None:
    """Both curves of the seeds that both have; None where there are none, or nights are missing.

    Seeds are done in their order, so the first ones of either are the same.
    """
    seeds = min(len(curve.values), len(random.values))
    if seeds == 0 or curve.values.shape[1] != random.values.shape[1]:
        return None
    return Curves(curve.labels, curve.values[:seeds]), Curves(random.labels, random.values[:seeds])
