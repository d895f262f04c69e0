"""One row a strategy: what was reached, what it saved beside random, its cost and its alarms. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any

import numpy as np

from classifier.calibration import Floats
from trainer.simulation.alarms import Alarms, alarms
from trainer.simulation.cost import Cost, cost
from trainer.simulation.curves import Curves, Saving, curves, half_width, nights_below, saving
from trainer.simulation.experiment import RANDOM

_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Summary:
    """A strategy in numbers.

    Attributes:
        strategy: Its name.
        seeds: Seeds whose nights are all there.
        start: Macro-F1 before the first night, mean over seeds.
        candidate: Macro-F1 of the last candidate, mean over seeds.
        candidate_half: Half of its 95 % interval.
        active: Macro-F1 of what serves at the end.
        saving: Labels for random's final macro-F1; None where there are no results of random.
        below: Share of nights below random's curve by more than the interval; None as well.
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
    below: float | None
    cost: Cost
    alarms: Alarms | None


def summarise(
    lines: Sequence[Mapping[str, Any]], strategies: Sequence[str], metric: str = "macro_f1"
) -> list[Summary]:
    """A summary for each strategy with a whole seed; lines of one experiment and kind of fit.

    Args:
        lines: Results.
        strategies: In the order wanted.
        metric: ``macro_f1`` or ``accuracy``.
    """
    by_name = {name: [line for line in lines if line["strategy"] == name] for name in strategies}
    found = {name: curves(of, "candidate", metric) for name, of in by_name.items() if of}
    return [
        _summary(name, by_name[name], curve, found.get(RANDOM), metric)
        for name, curve in found.items()
        if len(curve.values)
    ]


def condensed(lines: Sequence[Mapping[str, Any]], strategies: Sequence[str]) -> list[dict[str, Any]]:
    """A line of JSON for each strategy: its curves with their intervals over seeds, and its summary.

    Args:
        lines: Results of one experiment and kind of fit.
        strategies: In the order wanted.
    """
    return [
        _condensed(row, [line for line in lines if line["strategy"] == row.strategy])
        for row in summarise(lines, strategies)
    ]


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
        "share_of_randoms_labels": None if row.saving is None else _rounded(astuple(row.saving)),
        "nights_below_random": row.below,
        "labels_by_class": _rounded(np.mean(last, axis=0)),
        "cost": {name: round(value, _DIGITS) for name, value in asdict(row.cost).items()},
        "drift": None if row.alarms is None else _drift(row.alarms),
    }


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
    name: str, lines: Sequence[Mapping[str, Any]], curve: Curves, random: Curves | None, metric: str
) -> Summary:
    active = curves(lines, "active", metric)
    pair = None if random is None else _same_seeds(curve, random)
    return Summary(
        strategy=name,
        seeds=len(curve.values),
        start=float(curve.mean[0]),
        candidate=float(curve.mean[-1]),
        candidate_half=float(half_width(curve.values)[-1]),
        active=float(active.mean[-1]),
        saving=None if pair is None else saving(*pair),
        below=None if pair is None else nights_below(*pair),
        cost=cost(lines),
        alarms=alarms(lines),
    )


def _same_seeds(curve: Curves, random: Curves) -> tuple[Curves, Curves] | None:
    """Both curves of the seeds that both have; None where there are none, or nights are missing.

    Seeds are done in their order, so the first ones of either are the same.
    """
    seeds = min(len(curve.values), len(random.values))
    if seeds == 0 or curve.values.shape[1] != random.values.shape[1]:
        return None
    return Curves(curve.labels, curve.values[:seeds]), Curves(random.labels, random.values[:seeds])
