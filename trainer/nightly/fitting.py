"""Fits of one night within its time: how long the next one takes is told by those before it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reviews.errors import AdapterError, ModelError
from trainer.errors import TrainingStopped
from trainer.nightly.recipes import Plan, Skipped

if TYPE_CHECKING:
    from trainer.train import Outcome


@dataclass(frozen=True, slots=True)
class Fitted:
    """A candidate.

    Attributes:
        plan: What was to be fitted.
        outcome: What came out.
        score: Macro-F1 on the rows that recipes are compared by.
        chosen_by: Which rows these were, in words.
    """

    plan: Plan
    outcome: "Outcome"
    score: float
    chosen_by: str


@dataclass(frozen=True, slots=True)
class Timed:
    """A candidate, and how long it took (seconds)."""

    fitted: Fitted
    seconds: float


def fit_within(
    plans: Sequence[Plan],
    budget_seconds: float,
    fit_one: Callable[[Plan], Fitted],
    clock: Callable[[], float],
) -> tuple[list[Timed], list[Skipped]]:
    """Fit one plan after the other, and leave out those that would not end within the budget.

    The first is always fitted. One that diverges or cannot be used leaves the others in the race.
    Seconds a step, with all that is around the steps, come from the fits before.

    Args:
        plans: The most promising first.
        budget_seconds: For all of them.
        fit_one: Fits a plan.
        clock: Seconds, from any beginning.

    Raises:
        ReviewLoopError: If none of them could be fitted.
    """
    begun, done, skipped = clock(), list[Timed](), list[Skipped]()
    failed: Exception | None = None
    for plan in plans:
        left = budget_seconds - (clock() - begun)
        needs = _seconds_for(plan, done)
        if done and needs > left:
            reason = f"It would take about {needs:.0f} s; {max(0.0, left):.0f} s of the budget are left."
            skipped.append(Skipped(plan.name, reason))
            continue
        started = clock()
        try:
            fitted = fit_one(plan)
        except (TrainingStopped, AdapterError, ModelError) as err:
            failed = err
            skipped.append(Skipped(plan.name, str(err)))
            continue
        done.append(Timed(fitted, clock() - started))
    if not done and failed is not None:
        raise failed  # what else there is to do depends on what went wrong with all of them
    return done, skipped


def forecast(
    plans: Sequence[Plan], budget_seconds: float, seconds_a_step: float | None
) -> tuple[list[dict[str, Any]], list[Skipped]]:
    """What would be fitted and how long each would take, ready for JSON; and what there is no time for.

    Args:
        plans: The most promising first.
        budget_seconds: For all of them.
        seconds_a_step: As earlier runs took; None where none tells, and then no seconds are told either.
    """
    planned: list[dict[str, Any]] = []
    late: list[Skipped] = []
    left = budget_seconds
    for plan in plans:
        needs = None if seconds_a_step is None else plan.steps * seconds_a_step
        if planned and needs is not None and needs > left:
            late.append(Skipped(plan.name, f"It would take about {needs:.0f} s; {left:.0f} s would be left."))
            continue
        left = max(0.0, left - (needs or 0.0))
        planned.append(
            {
                "name": plan.name,
                "start": "active" if plan.start else "base",
                "train_rows": len(plan.rows),
                "steps": plan.steps,
                "seconds": None if needs is None else round(needs, 1),
            }
        )
    return planned, late


def pace(recipes: Sequence[Mapping[str, Any]]) -> float | None:
    """Seconds a step, with all that is around the steps, of fits told by :func:`about`; None without any."""
    steps = sum(one["steps"] for one in recipes)
    return sum(one["seconds"] for one in recipes) / steps if steps else None


def best(done: Sequence[Timed]) -> Timed:
    """The candidate with the best score; of equals, the more promising one, which comes first."""
    return max(done, key=lambda timed: timed.fitted.score)


def about(timed: Timed) -> dict[str, Any]:
    """A fit in numbers, ready for JSON."""
    fitted = timed.fitted
    return {
        "name": fitted.plan.name,
        "score": fitted.score,
        "chosen_by": fitted.chosen_by,
        "start": "active" if fitted.plan.start else "base",
        "train_rows": len(fitted.plan.rows),
        "steps": fitted.outcome.position.steps,
        "epoch_kept": fitted.outcome.position.best_epoch,
        "seconds": round(timed.seconds, 3),
        "metrics": fitted.outcome.measured.metrics,
    }


def _seconds_for(plan: Plan, done: Sequence[Timed]) -> float:
    steps = sum(timed.fitted.plan.steps for timed in done)
    return plan.steps * sum(timed.seconds for timed in done) / steps if steps else 0.0
