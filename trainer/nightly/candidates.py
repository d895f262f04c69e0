"""The candidates of a run: planned from recipes, fitted within a budget, compared on the same rows.

Recipes are compared on validation rows, and by cross-checks where there are too few of these. Rows that a
recipe is scored on are neither trained on nor do they choose its epoch. A cross-check holds out training
and validation rows, in turns, that the active adapter never saw: on others, a recipe that continues from it
would seem better than it is. Heads then train on validation rows, too: with few labels every row counts, and
nothing else of a head is chosen by them.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from classifier.settings import ClassifierSettings
from reviews.errors import AdapterError, ModelError
from reviews.slices import Slice
from trainer.data.splitting import stratified_split
from trainer.errors import TrainingStopped
from trainer.fitting.fit_data import Fit, FitRequest, Outcome, Report, SplitPredictions, Splits
from trainer.nightly.cross_checks import Checked, RecipeChecks, choose_recipe
from trainer.nightly.snapshot import Row, Snapshot, dataset, has_few_validation_rows
from trainer.settings import FitKind, RecipeSettings, TrainerSettings

_UNCHECKED = "It was fitted, but there was no time for its cross-checks, by which the others are compared."


@dataclass(frozen=True, slots=True)
class Plan:
    """One fit of a run.

    Attributes:
        name: Of its recipe.
        continues_from: Directory of the adapter that it continues from; None for fresh matrices.
        rows: What it trains on.
        settings: How.
        kind: Whether LoRA is fitted, a head alone, or the one and then the other.
        rows_to_begin: With fewer rows it is fitted only where no other plan was.
    """

    name: str
    continues_from: Path | None
    rows: tuple[Row, ...]
    settings: TrainerSettings
    kind: FitKind = "lora"
    rows_to_begin: int = 0

    def waits(self) -> str:
        """Why it is left out where another plan was fitted, in a sentence; nothing where it is not."""
        if len(self.rows) >= self.rows_to_begin:
            return ""
        return f"It waits for {self.rows_to_begin:,} training rows; there are {len(self.rows):,}."

    @property
    def steps(self) -> int:
        """Optimiser steps, at most; a head has none."""
        if self.kind == "head":
            return 0
        passes = -(-len(self.rows) // self.settings.batch_size)
        in_epoch = -(-passes // self.settings.accumulation_steps)
        return self.settings.epochs_for(in_epoch) * in_epoch


@dataclass(frozen=True, slots=True)
class Skipped:
    """A recipe that is not fitted, and why, in a sentence."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Fitted:
    """A candidate.

    Attributes:
        plan: What was to be fitted.
        outcome: What came out.
        checks: What it predicts for the rows that recipes are compared by.
        chosen_by: Which rows these were, in words.
        seconds: How long it took.
    """

    plan: Plan
    outcome: Outcome
    checks: RecipeChecks
    chosen_by: str
    seconds: float = 0.0

    @property
    def score(self) -> float:
        """Macro-F1 on the rows that recipes are compared by."""
        return self.checks.score()


def plan_fits(
    snapshot: Snapshot, settings: TrainerSettings, active_directory: Path | None, seed: int
) -> tuple[list[Plan], list[Skipped]]:
    """What is fitted, in the order of the settings, and what is not."""
    plans: list[Plan] = []
    skipped: list[Skipped] = []
    taken: dict[tuple[object, ...], str] = {}
    of_heads = snapshot.of("validation") if has_few_validation_rows(snapshot, settings.nightly) else ()
    for recipe in settings.nightly.recipes:
        rows = tuple(row for row in snapshot.of("train") if recipe.replay or row.is_new)
        learned = rows + of_heads if recipe.kind == "head" else rows
        key = (recipe.kind, recipe.start, recipe.learning_rate, len(rows))
        why = _why_not(recipe, learned, snapshot.names, active_directory, settings.nightly.min_class_rows)
        if not why and key in taken:
            why = f"In this run it is the same as {taken[key]}: there are no older rows."
        if why:
            skipped.append(Skipped(recipe.name, why))
            continue
        taken[key] = recipe.name
        common: dict[str, object] = {"seed": seed}
        if recipe.learning_rate is not None:
            common["learning_rate"] = recipe.learning_rate
        parent = active_directory if recipe.start == "active" else None
        fit_settings = settings.model_copy(update=common)
        plans.append(Plan(recipe.name, parent, rows, fit_settings, recipe.kind, recipe.min_train_rows))
    return plans, skipped


def _why_not(
    recipe: RecipeSettings,
    rows: Sequence[Row],
    names: Sequence[str],
    active_directory: Path | None,
    least: int,
) -> str:
    if recipe.start == "active" and active_directory is None:
        return "No single adapter serves that it could continue from, with the labels of this run."
    counts = [sum(row.label == index for row in rows) for index in range(len(names))]
    few = [name for name, count in zip(names, counts, strict=True) if count < least]
    if few:
        which = "rows" if recipe.replay else "new rows"
        return f"Too few {which} of {', '.join(few)} to train on: {least} are needed."
    return ""


def fit_within(
    plans: Sequence[Plan],
    budget_seconds: float,
    fit_one: Callable[[Plan, float], Fitted],
    clock: Callable[[], float],
    seconds_a_step: float | None = None,
) -> tuple[list[Fitted], list[Skipped]]:
    """Fit one plan after the other within the budget, and leave out those that would not end in time.

    Heads come first, so that a slow machine always has a candidate. The first plan that takes steps is fitted
    in any case, cut to the steps that there is time for. One that waits for rows is fitted only where no
    other was. One that diverges or cannot be used does not stop the others. Seconds a step, with all that is
    around the steps, come from the fits before. Where some were cross-checked, one that there was
    no time to cross-check takes no part: scores are of the same rows.

    Args:
        plans: The most promising first.
        budget_seconds: For all of them.
        fit_one: Fits a plan in so many seconds.
        clock: Seconds, from any beginning.
        seconds_a_step: As earlier runs took; None where unknown.

    Returns:
        What was fitted, in the order of the plans, and what was not.

    Raises:
        ReviewLoopError: If none of them could be fitted.
    """
    begun, done, skipped = clock(), list[Fitted](), list[Skipped]()
    failed: Exception | None = None
    for plan in in_turn(plans):
        if done and (waits := plan.waits()):
            skipped.append(Skipped(plan.name, waits))
            continue
        left = budget_seconds - (clock() - begun)
        needs = _seconds_for(plan, done, seconds_a_step)
        is_first = not any(one.plan.steps for one in done)
        if needs > left and not (is_first and (not done or left > 0)):
            skipped.append(Skipped(plan.name, _no_time(needs, left, budget_seconds)))
            continue
        started = clock()
        try:
            fitted = fit_one(plan, left)
        except (TrainingStopped, AdapterError, ModelError) as err:
            failed = err
            skipped.append(Skipped(plan.name, str(err)))
            continue
        done.append(replace(fitted, seconds=clock() - started))
    if not done and failed is not None:
        raise failed  # what else there is to do depends on what went wrong with all of them
    done = [one for plan in plans for one in done if one.plan is plan]
    compared, late = _scored_alike(done)
    return compared, skipped + late


def in_turn(plans: Sequence[Plan]) -> list[Plan]:
    """The plans as they are fitted: heads, then those that take steps, then those that wait for rows."""
    return sorted(plans, key=lambda plan: (bool(plan.waits()), plan.steps > 0))


def _no_time(needs: float, left: float, budget_seconds: float) -> str:
    """Why a recipe is left out; where no fit tells the pace, nobody knows what it would take."""
    if left <= 0:
        return f"The {budget_seconds:.0f} s of the budget were used up before it."
    return f"It would take about {needs:.0f} s; {left:.0f} s of the budget are left."


def _scored_alike(done: Sequence[Fitted]) -> tuple[list[Fitted], list[Skipped]]:
    """The fits with scores on the same rows: where some were cross-checked, those alone."""
    checked = [one for one in done if one.checks.folds]
    if not checked:
        return list(done), []
    late = [Skipped(one.plan.name, _UNCHECKED) for one in done if not one.checks.folds]
    return checked, late


def _seconds_for(plan: Plan, done: Sequence[Fitted], seconds_a_step: float | None) -> float:
    timed = [one for one in done if one.plan.steps]
    steps = sum(_steps_taken(one) for one in timed)
    pace = sum(one.seconds for one in timed) / steps if steps else seconds_a_step or 0.0
    return plan.steps * pace


def _steps_taken(fitted: Fitted) -> int:
    """Fewer than planned where the time did not last."""
    return fitted.outcome.position.steps


def best(done: Sequence[Fitted]) -> Fitted:
    """The candidate to take: the most promising that is not worse than another beyond chance.

    Args:
        done: The most promising first, one at least, with scores on the same rows.
    """
    chosen = done[choose_recipe([fitted.checks for fitted in done])]
    highest = max(done, key=lambda fitted: fitted.score)
    if chosen.score == highest.score:
        return chosen
    why = f"{chosen.chosen_by}; {highest.plan.name} is better by no more than a standard error"
    return replace(chosen, chosen_by=why)


def about(fitted: Fitted) -> dict[str, Any]:
    """A fit in numbers, ready for JSON."""
    return {
        "name": fitted.plan.name,
        "kind": fitted.plan.kind,
        "score": fitted.score,
        "chosen_by": fitted.chosen_by,
        "start": "active" if fitted.plan.continues_from else "base",
        "train_rows": len(fitted.plan.rows),
        "steps": fitted.outcome.position.steps,
        "planned_steps": fitted.plan.steps,
        "epoch_kept": fitted.outcome.position.kept_epoch,
        "seconds": round(fitted.seconds, 3),
        "metrics": fitted.outcome.measured.metrics,
    }


def forecast(
    plans: Sequence[Plan], budget_seconds: float, seconds_a_step: float | None
) -> tuple[list[dict[str, Any]], list[Skipped]]:
    """What would be fitted and how long each would take, ready for JSON; and what there is no time for.

    Args:
        plans: The most promising first.
        budget_seconds: For all of them.
        seconds_a_step: As earlier runs took; None where unknown: then no seconds are given.
    """
    planned: list[dict[str, Any]] = []
    late: list[Skipped] = []
    left = budget_seconds
    for plan in in_turn(plans):
        if planned and (waits := plan.waits()):
            late.append(Skipped(plan.name, waits))
            continue
        needs, steps = None if seconds_a_step is None else plan.steps * seconds_a_step, plan.steps
        if needs is not None and seconds_a_step and needs > left:
            if any(one["steps"] for one in planned):
                reason = f"It would take about {needs:.0f} s; {left:.0f} s would be left."
                late.append(Skipped(plan.name, reason))
                continue
            steps, needs = max(1, int(left / seconds_a_step)), left
        left = max(0.0, left - (needs or 0.0))
        planned.append(
            {
                "name": plan.name,
                "kind": plan.kind,
                "start": "active" if plan.continues_from else "base",
                "train_rows": len(plan.rows),
                "steps": steps,
                "planned_steps": plan.steps,
                "seconds": None if needs is None else round(needs, 1),
            }
        )
    return planned, late


def pace(recipes: Sequence[Mapping[str, Any]]) -> float | None:
    """Seconds a step, overhead included, of the fits that :func:`about` describes; None without any."""
    fits = [one for one in recipes if one["steps"]]  # heads tell nothing of steps
    steps = sum(one["steps"] for one in fits)
    return sum(one["seconds"] for one in fits) / steps if steps else None


class CandidateFitter:
    """Fits plans and scores what came out, all on the same rows.

    Args:
        snapshot: The rows.
        classifier: Base model, device, and the task.
        fit: Does a fit, such as :class:`trainer.fitting.head_fit.RunFits`.
        report_of: What a fit calls after each step, for the fit's note.
        seed: Of the folds.
        clock: Seconds, from any beginning.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        classifier: ClassifierSettings,
        fit: Fit,
        report_of: Callable[[str], Report],
        seed: int,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._snapshot = snapshot
        self._classifier = classifier
        self._fit = fit
        self._report_of = report_of
        self._seed = seed
        self._clock = clock

    def candidate_of(self, plan: Plan, seconds: float | None = None) -> Fitted:
        """The candidate of a plan, with its score.

        Args:
            plan: What to fit.
            seconds: The time for it, of which each cross-check gets as much as the candidate. They are left
                out where it took all. None: any.
        """
        began, settings = self._clock(), plan.settings.nightly
        are_few = has_few_validation_rows(self._snapshot, settings)
        folds = self._folds(settings.cross_check_folds) if are_few else []
        share = None if seconds is None else seconds / (1 + len(folds))
        outcome = self._outcome(self._request(plan, seconds=share))
        validation = outcome.measured.predictions["validation"]
        chosen_by = f"{len(validation.truth)} validation rows"
        if not are_few:
            return Fitted(plan, outcome, RecipeChecks(validation), chosen_by)
        chosen_by += f" (few: {settings.enough_validation_rows} are enough)"
        left = None if seconds is None else seconds - (self._clock() - began)
        if not folds or (left is not None and left <= 0):
            chosen_by += ", without cross-checks for lack of time" if folds else ""
            return Fitted(plan, outcome, RecipeChecks(validation), chosen_by)
        share = None if left is None else left / len(folds)
        checked = tuple(Checked(fold, self._cross_check(plan, fold, share)) for fold in folds)
        held = [row for fold in folds for row in fold]
        rows = sum(row.slice == "validation" for row in held)
        chosen_by = (
            f"{rows} validation rows (few: {settings.enough_validation_rows} are enough) and "
            f"{len(held) - rows} training rows in {len(folds)} cross-checks"
        )
        return Fitted(plan, outcome, RecipeChecks(validation, checked), chosen_by)

    def _folds(self, count: int) -> list[tuple[Row, ...]]:
        """The new rows that people labelled, near-duplicates together; none where training rows are few.

        Each fold has its share of the validation rows, so that others are left to choose an epoch by; none
        has any where these are very few.
        """
        training = self._divided("train", count, 2 * count * len(self._snapshot.names))
        validation = self._divided("validation", count, 2 * count)
        folds = [(*rows, *(validation[place] if validation else ())) for place, rows in enumerate(training)]
        return [fold for fold in folds if fold]

    def _divided(self, slice_: Slice, count: int, least: int) -> list[tuple[Row, ...]]:
        """The new rows of a slice in so many parts; none where fewer than the least differ."""
        new = [row for row in self._snapshot.of(slice_) if row.is_new and not row.review.by_models]
        groups = [row.duplicate_group for row in new]
        if len(set(groups)) < least:
            return []
        parts = stratified_split([row.label for row in new], groups, self._seed, [1 / count] * count)
        return [
            tuple(row for row, part in zip(new, parts, strict=True) if part == place)
            for place in range(count)
        ]

    def _cross_check(self, plan: Plan, fold: Sequence[Row], seconds: float | None) -> SplitPredictions:
        """Predictions for these rows, fitted without them, their near-duplicates and other versions."""
        request = self._request(plan, fold, seconds)
        test = dataset(fold, self._snapshot.names)
        splits = replace(request.splits, test=test)
        outcome = self._outcome(replace(request, splits=splits, is_check=True))
        return outcome.measured.predictions["test"]

    def _outcome(self, request: FitRequest) -> Outcome:
        outcome = self._fit(request, self._report_of(request.note))
        if outcome is None:
            raise RuntimeError("A training run is fitted by one process, not by a group.")
        return outcome

    def _request(self, plan: Plan, without: Sequence[Row] = (), seconds: float | None = None) -> FitRequest:
        """A fit of the plan without some rows, their near-duplicates and other versions."""
        groups = {row.duplicate_group for row in without}
        reviews = {row.review.review_id for row in without}

        def kept(rows: Sequence[Row]) -> tuple[Row, ...]:
            return tuple(
                row
                for row in rows
                if row.duplicate_group not in groups and row.review.review_id not in reviews
            )

        names = self._snapshot.names
        train, validation = kept(plan.rows), kept(self._snapshot.of("validation"))
        are_few = has_few_validation_rows(self._snapshot, plan.settings.nightly)
        if not are_few:
            # What the active adapter knows favours the recipes that continue from it, and calibrates none.
            validation = tuple(row for row in validation if row.is_new)
        learns_validation = plan.kind != "lora" and are_few
        learned = (*train, *validation) if learns_validation else train
        return FitRequest(
            Splits(
                dataset(train, names, weighted=True), dataset(validation, names, weighted=learns_validation)
            ),
            self._classifier,
            plan.settings,
            note=f"Made by a training run, recipe {plan.name}.",
            continues_from=plan.continues_from,
            kind=plan.kind,
            learns_validation=learns_validation,
            speaks_for=self._speaks_for(learned),
            is_new=tuple(row.is_new and not row.review.by_models for row in learned)
            if plan.kind != "lora" and plan.continues_from
            else None,
            seconds=seconds,
        )

    def _speaks_for(self, rows: Sequence[Row]) -> tuple[float, ...]:
        """How many reviews of the stream each row speaks for, by the shares of predicted labels in the audit.

        One row is added to each label, so that few audit rows say little.
        """
        audited = defaultdict[str | None, float](float)
        for row in self._snapshot.of("audit"):
            if row.review.is_drawn:
                audited[row.review.predicted] += row.review.draw_weight
        among = Counter(row.review.predicted for row in rows)
        return tuple((audited[row.review.predicted] + 1) / among[row.review.predicted] for row in rows)
