"""One night, stage by stage. Killed at any moment, it leaves what serves as it was, and the next one clean.

Collect labels, freeze them, fit recipes within the budget, judge the best beside what serves, promote it or
keep what serves, and queue what is worth a label next. The ledger writes each stage down; everything that
others can see happens in one of its transactions.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from classifier.adapters.store import write_files
from classifier.settings import ClassifierSettings
from reviews.adapter import Activation
from reviews.label import LabelledReview
from reviews.training_run import TrainingRun
from storage.adapters.registry import AdapterStore
from trainer.data.dataset import own_names
from trainer.fitting.run import Outcome, Progress, Report, Run
from trainer.gate.judge import judge
from trainer.nightly.annotation_queue import Desk
from trainer.nightly.candidates import Comparison, Fitted, about, best, fit_within, forecast, plan
from trainer.nightly.ledger import Ledger
from trainer.nightly.promotion import Judged, Promotion, Scoring, ask, gather, measures
from trainer.nightly.snapshot import Snapshot, freeze, missing, weighting
from trainer.settings import TrainerSettings

log = structlog.get_logger()

STAGES = ("collect", "snapshot", "fit", "evaluate", "register", "promote", "queue", "drift")
"""In the order in which a night that promotes passes them."""
_LOG_EVERY_SECONDS = 10.0


@dataclass(frozen=True)
class Parts:
    """What a night is made of.

    Attributes:
        settings: The recipe, the gate, the selection and the night's own.
        classifier: Base model, device, and the task.
        adapters: The registry.
        desk: Labels in, questions out.
        directory_of: The directory of a registered adapter.
        load: A directory to a classifier.
        fit: Fits a run; :func:`trainer.fitting.fit.fit`.
        clock: Seconds, from any beginning.
        attempts_before: How many verdicts compared adapters since the last promotion.
        trained_on: The records that an adapter was trained on.
        seconds_a_step: How long a step of a fit took in the last run that tells; None where none does.
        report_drift: Writes the night's drift report; None writes none.
    """

    settings: TrainerSettings
    classifier: ClassifierSettings
    adapters: AdapterStore
    desk: Desk
    directory_of: Callable[[str], Path]
    load: Callable[[Path], Scoring]
    fit: Callable[[Run, Report], Outcome | None]
    clock: Callable[[], float]
    attempts_before: Callable[[], int]
    trained_on: Callable[[str], frozenset[int]]
    seconds_a_step: Callable[[], float | None] = lambda: None
    report_drift: Callable[[], None] | None = None


class _Steps:
    """Logs how far a fit is, now and then.

    Args:
        note: What is fitted, in words.
        clock: Seconds, from any beginning.
    """

    def __init__(self, note: str, clock: Callable[[], float]) -> None:
        self._note = note
        self._clock = clock
        self._next = clock() + _LOG_EVERY_SECONDS

    def __call__(self, step: Progress) -> None:
        if self._clock() < self._next:
            return
        self._next = self._clock() + _LOG_EVERY_SECONDS
        log.info(
            "fitting",
            what=self._note,
            epoch=step.epoch,
            step=step.step,
            steps=step.steps,
            loss=round(step.loss, 4),
        )


class Night:
    """One run.

    Args:
        parts: What it is made of.
        ledger: Where it is written down.
        active: What serves as it begins: a promotion replaces this and nothing else.
        seed: Of everything random.
        budget_seconds: For fitting.
        is_dry: Change nothing anywhere.
    """

    def __init__(
        self,
        parts: Parts,
        ledger: Ledger,
        active: Activation | None,
        *,
        seed: int,
        budget_seconds: float,
        is_dry: bool = False,
    ) -> None:
        self._parts = parts
        self._ledger = ledger
        self._active = active
        self._seed = seed
        self._budget_seconds = budget_seconds
        self._is_dry = is_dry

    def run(self) -> TrainingRun:
        """The run as it was written down in the end.

        Raises:
            ReviewLoopError: If it cannot go on; it is written down as failed, unless the lease is lost.
        """
        snapshot = self._enough()
        if snapshot is not None:
            with self._scratch() as scratch:
                self._improve(snapshot, scratch)
        self._ask_more()
        return self._ledger.close()

    def plan(self) -> TrainingRun:
        """What a run would fit, and about how long that would take; nothing is fitted.

        Raises:
            ReviewLoopError: If a run could not go on.
        """
        snapshot = self._enough()
        told = self._ledger.close()
        if snapshot is None:
            return told
        parts = self._parts
        plans, impossible = plan(snapshot, parts.settings, self._serving_directory(), self._seed)
        planned, late = forecast(plans, self._budget_seconds, parts.seconds_a_step())
        return replace(
            told,
            state="planned",
            metrics={"plan": planned, "skipped": {one.name: one.reason for one in (*impossible, *late)}},
            verdict={"promote": False, "reasons": ["This is a plan: nothing was fitted."]},
        )

    def _enough(self) -> Snapshot | None:
        """What is labelled, frozen; None where it is not enough, which is written down."""
        self._reach("collect")
        reviews = self._ledger.patiently(lambda: self._parts.desk.collect(settle=not self._is_dry))
        self._reach("snapshot")
        snapshot = self._freeze(reviews)
        lacking = missing(snapshot, self._parts.settings.nightly, self._parts.settings.gate)
        if not lacking:
            return snapshot
        self._ledger.decide("waiting", {"promote": False, "reasons": lacking})
        return None

    def _reach(self, stage: str) -> None:
        self._ledger.reach(stage)
        log.info("stage_begins", run=self._ledger.run, stage=stage)

    def _freeze(self, reviews: Sequence[LabelledReview]) -> Snapshot:
        nightly, active = self._parts.settings.nightly, self._active
        trained_on: frozenset[int] = frozenset()
        if active is not None:
            version = active.version
            trained_on = self._ledger.patiently(lambda: self._parts.trained_on(version))
        names = self._names(reviews)
        snapshot = freeze(reviews, names, nightly.shares, weighting(nightly), trained_on)
        self._ledger.freeze(snapshot.items(), snapshot.manifest(nightly.shares, self._seed))
        return snapshot

    def _names(self, reviews: Sequence[LabelledReview]) -> tuple[str, ...]:
        """The classes: those of the adapter that serves; before the first, the labels as they are given."""
        if self._active is not None:
            version = self._active.version
            return self._ledger.patiently(lambda: self._parts.adapters.find(version)).labels
        return own_names(review.label for review in reviews)

    def _improve(self, snapshot: Snapshot, scratch: Path) -> None:
        """Fit, judge, and promote or keep."""
        self._reach("fit")
        fitted, metrics = self._fit(snapshot)
        self._reach("evaluate")
        files = fitted.outcome.files
        candidate = self._parts.load(write_files(files, scratch / "candidate", self._parts.classifier.task))
        probed = ask(candidate, snapshot)  # before all other rows
        evidence = gather(snapshot, self._serving(), candidate)
        metrics |= measures(evidence)
        gate, attempts = self._parts.settings.gate, self._ledger.patiently(self._parts.attempts_before)
        verdict = judge(evidence, gate, attempts_before=attempts, seed=self._seed)
        judged = Judged(fitted.outcome, snapshot, probed, verdict, metrics)
        Promotion(self._parts.adapters, self._parts.load, self._ledger, is_dry=self._is_dry).settle(
            judged, self._active, scratch
        )

    def _fit(self, snapshot: Snapshot) -> tuple[Fitted, dict[str, Any]]:
        parts = self._parts
        plans, impossible = plan(snapshot, parts.settings, self._serving_directory(), self._seed)
        compare = Comparison(snapshot, parts.classifier, self._fit_run, self._seed)
        done, late = fit_within(plans, self._budget_seconds, compare, parts.clock)
        chosen = best(done).fitted
        metrics = {
            "recipes": [about(timed) for timed in done],
            "skipped": {skipped.name: skipped.reason for skipped in (*impossible, *late)},
            "chosen": chosen.plan.name,
            "chosen_by": chosen.chosen_by,
        }
        log.info("recipe_chosen", recipe=chosen.plan.name, score=round(chosen.score, 4), of=len(done))
        return chosen, metrics

    def _fit_run(self, run: Run) -> Outcome:
        shown = _Steps(run.note, self._parts.clock)

        def report(step: Progress) -> None:
            self._ledger.check()
            shown(step)

        outcome = self._parts.fit(run, report)
        if outcome is None:
            raise RuntimeError("A nightly run is fitted by one process, not by a team.")
        return outcome

    def _serving(self) -> Scoring | None:
        directory = self._serving_directory()
        return None if directory is None else self._parts.load(directory)

    def _serving_directory(self) -> Path | None:
        if self._active is None:
            return None
        version = self._active.version
        return self._ledger.patiently(lambda: self._parts.directory_of(version))

    def _ask_more(self) -> None:
        """Queue what is worth a label next, and report drift."""
        self._reach("queue")
        if self._active is not None:  # nothing is scored before the first adapter, so nothing can be chosen
            desk, run = self._parts.desk, self._ledger.run
            questions = self._ledger.patiently(lambda: desk.questions(self._seed + run))
            if not self._is_dry:
                queued = self._ledger.patiently(lambda: desk.queue(questions, run))
                log.info("reviews_queued", queued=queued)
        if self._parts.report_drift is not None and not self._is_dry:
            self._reach("drift")
            self._parts.report_drift()

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        place = self._parts.settings.nightly.scratch
        with tempfile.TemporaryDirectory(prefix="reviewloop-night-", dir=place) as folder:
            yield Path(folder)
