"""What a run of nights costs, and what the gate did in it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Cost:
    """Of all nights and seeds of one strategy.

    Attributes:
        labels: Answers to what the strategy asked, a seed.
        fits: Fits, a seed.
        fit_seconds: Seconds of a fit, on average.
        promotions: Candidates that were promoted, a seed.
        worse_on_audit: Promotions, of all seeds, after which macro-F1 on the audit rows was lower.
        worse_on_held_back: The same on rows that the gate never saw: its errors, chance included.
    """

    labels: float
    fits: float
    fit_seconds: float
    promotions: float
    worse_on_audit: int
    worse_on_held_back: int


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
        worse_on_audit=sum(line["audit"]["candidate"] < line["audit"]["before"] for line in promoted),
        worse_on_held_back=sum(
            line["candidate"]["macro_f1"] < line["before"]["macro_f1"] for line in promoted
        ),
    )
