"""One training run, stage by stage. Killed at any moment, it leaves the active adapter as it was.

Collect labels, freeze them, fit recipes within the budget, judge the best beside the active adapter, promote
it or keep the active one, and queue what is worth a label next. The ledger writes each stage down; all that
others can see happens in one of its transactions, so the next run starts clean.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import structlog

from classifier.adapters.manifest import describe_adapter
from classifier.adapters.store import write_files
from classifier.settings import ClassifierSettings
from reviews.adapter import Activation, AdapterVersion
from reviews.errors import AdapterError
from reviews.label import LabelledReview
from reviews.label_set import LabelSet
from reviews.retry import Retry
from reviews.training_run import TrainingItem, TrainingRun
from storage.adapters.registry import ActivationConflict, AdapterStore
from storage.learning.leases import Lease
from storage.learning.runs import Decision, TrainingRunStore
from trainer.data.dataset import own_names
from trainer.fitting.fit_data import Fit
from trainer.fitting.relabelled import relabelled
from trainer.gate.evidence import Scorer
from trainer.gate.judge import judge
from trainer.gate.verdict import Check, Verdict
from trainer.nightly.candidates import (
    CandidateFitter,
    Fitted,
    Plan,
    Skipped,
    about,
    best,
    fit_within,
    forecast,
    in_turn,
    plan_fits,
)
from trainer.nightly.cross_checks import HeldOutByFolds, held_out_by_folds
from trainer.nightly.held_out import (
    about_common,
    check_stored_copy,
    confusion_of,
    first_rows_alone,
    gather,
    metrics_of,
    on_common_labels,
)
from trainer.nightly.labels_and_questions import LabelExchange
from trainer.nightly.progress import FitWatch, RunProgress
from trainer.nightly.snapshot import Snapshot, freeze, missing, weighting
from trainer.settings import TrainerSettings

_P = ParamSpec("_P")
log = structlog.get_logger()


class Ledger:
    """Writes one run down, step by step; every call may refuse, and then the run ends.

    Each step is written under the run's lease and tried again until the database answers; of an unrecorded
    run it is only remembered.

    Args:
        run: The run as it begins.
        runs: The store of runs.
        lease: What the run is done under; None: the run is unrecorded, nothing is written.
        check: Refuses to go on where the run was asked to stop or the lease is lost.
        patiently: Does work again until the database answers.
    """

    def __init__(
        self,
        run: TrainingRun,
        runs: TrainingRunStore,
        lease: Lease | None,
        check: Callable[[], None],
        patiently: Retry,
    ) -> None:
        self.run = run
        self.runs = runs
        self.check = check
        self.patiently = patiently
        self._lease = lease

    @property
    def is_unrecorded(self) -> bool:
        """Whether nothing is to be changed anywhere: only :attr:`run` says what would be stored."""
        return self._lease is None

    def reach(self, stage: str) -> None:
        """The next stage begins."""
        self.check()
        self._write(self.runs.reach, stage)
        self._note(stage=stage)
        log.info("stage_begins", run=self.run.id, stage=stage)

    def keep_dataset(self, items: Sequence[TrainingItem], manifest: Mapping[str, Any]) -> None:
        """The dataset of the run is fixed."""
        self._write(self.runs.keep_dataset, items, manifest)
        self._note(manifest=manifest)

    def note_progress(self, progress: Mapping[str, Any], /) -> None:
        """Keep how far the fits are.

        Raises:
            Unavailable: If the database does not answer now; it is not waited for.
        """
        self._note(progress=progress)
        if self._lease is not None:
            self.runs.note_progress(self.run.id, self._lease, progress)

    def promote(
        self,
        candidate: AdapterVersion,
        *,
        expected: Activation | None,
        verdict: Verdict,
        metrics: Mapping[str, Any],
    ) -> None:
        """The candidate takes over, and the run is decided, in one transaction.

        Raises:
            ActivationConflict: If another activation than the expected one is the newest.
        """
        self.check()
        reason, report = " ".join(verdict.reasons), verdict.to_json()
        self._write(
            self.runs.promote, candidate, expected=expected, reason=reason, verdict=report, metrics=metrics
        )
        self._note(state="promoted", verdict=report, metrics=metrics, candidate_adapter=candidate.version)

    def decide(
        self,
        state: Decision,
        verdict: Mapping[str, Any],
        metrics: Mapping[str, Any] | None = None,
        candidate: str | None = None,
    ) -> None:
        """Nothing is promoted, and why."""
        self._write(self.runs.decide, state, verdict=verdict, metrics=metrics, candidate=candidate)
        self._note(state=state, verdict=verdict, metrics=metrics, candidate_adapter=candidate)

    def close(self) -> TrainingRun:
        """Nothing is left to do; the run as it is stored, or would be."""
        self._write(self.runs.close)
        if self.is_unrecorded:
            return replace(self.run, stage="done", finished_at=datetime.now(UTC))
        return self.patiently(lambda: self.runs.show(self.run.id))

    def _write(
        self, write: Callable[Concatenate[int, Lease, _P], object], /, *given: _P.args, **named: _P.kwargs
    ) -> None:
        """Call a method of the store for this run under its lease, until the database answers.

        ``write`` is a method of :class:`TrainingRunStore` that takes the run's number and its lease first.
        """
        lease = self._lease
        if lease is not None:
            self.patiently(lambda: write(self.run.id, lease, *given, **named))

    def _note(self, **fields: Any) -> None:
        self.run = replace(self.run, **fields)


@dataclass(frozen=True)
class Parts:
    """What a run is made of.

    Attributes:
        settings: The recipe, the gate, the selection and the schedule.
        classifier: Base model, device, and the task.
        adapters: The registry.
        exchange: Labels in, questions out.
        directory_of: The directory of a registered adapter; None for an ensemble.
        load: A directory to a classifier.
        load_registered: A registered adapter to a classifier.
        fit: Does a fit, such as :class:`trainer.fitting.head_fit.RunFits`.
        clock: Seconds, from any beginning.
        attempts_before: How many verdicts since the last promotion compared adapters.
        trained_on: The records that an adapter was trained on, or chosen by.
        seconds_a_step: How long a step of a fit took in the last run that tells; None if there is none.
        report_drift: Writes the run's drift report; None writes none.
        has_seen_erased: Whether an adapter has seen a review that was erased, and has to be replaced.
        tell: Called with every step of a fit.
    """

    settings: TrainerSettings
    classifier: ClassifierSettings
    adapters: AdapterStore
    exchange: LabelExchange
    directory_of: Callable[[str], Path | None]
    load: Callable[[Path], Scorer]
    load_registered: Callable[[str], Scorer]
    fit: Fit
    clock: Callable[[], float]
    attempts_before: Callable[[], int]
    trained_on: Callable[[str], frozenset[int]]
    seconds_a_step: Callable[[], float | None] = lambda: None
    report_drift: Callable[[], None] | None = None
    has_seen_erased: Callable[[str], bool] = lambda _: False
    tell: Callable[[RunProgress], None] = lambda _: None


class NightlyRun:
    """One run.

    Args:
        parts: What it is made of.
        ledger: Where it is written down; of an unrecorded run, nothing is changed anywhere.
        activation: Of the adapter that is active as the run begins; a promotion replaces this one only.
        seed: Of everything random.
        budget_seconds: For fitting.
    """

    def __init__(
        self, parts: Parts, ledger: Ledger, activation: Activation | None, *, seed: int, budget_seconds: float
    ) -> None:
        self._parts = parts
        self._ledger = ledger
        self._activation = activation
        self._seed = seed
        self._budget_seconds = budget_seconds
        self._label_set: LabelSet | None = None

    def run(self) -> TrainingRun:
        """The finished run as it was written down.

        Raises:
            ReviewLoopError: If it cannot go on; it is written down as failed, unless the lease is lost.
        """
        snapshot = self._collect_snapshot()
        if snapshot is not None:
            place = self._parts.settings.nightly.scratch
            with tempfile.TemporaryDirectory(prefix="reviewloop-run-", dir=place) as scratch:
                self._improve(snapshot, Path(scratch))
        self._queue_and_report()
        return self._ledger.close()

    def plan(self) -> TrainingRun:
        """What a run would fit, and about how long that would take; nothing is fitted.

        Raises:
            ReviewLoopError: If a run could not go on.
        """
        snapshot = self._collect_snapshot()
        told = self._ledger.close()
        if snapshot is None:
            return told
        parts = self._parts
        with tempfile.TemporaryDirectory(
            prefix="reviewloop-run-", dir=parts.settings.nightly.scratch
        ) as scratch:
            active = self._active_directory(snapshot.names, Path(scratch))
            plans, impossible = plan_fits(snapshot, parts.settings, active, self._seed)
        planned, late = forecast(plans, self._budget_seconds, parts.seconds_a_step())
        return replace(
            told,
            state="planned",
            metrics={"plan": planned, "skipped": {one.name: one.reason for one in (*impossible, *late)}},
            verdict={"promote": False, "reasons": ["This is a plan: nothing was fitted."]},
        )

    def _collect_snapshot(self) -> Snapshot | None:
        """The frozen dataset; None where too little is labelled, which is written down."""
        self._ledger.reach("collect")
        reviews = self._ledger.patiently(
            lambda: self._parts.exchange.collect(tidy=not self._ledger.is_unrecorded)
        )
        self._ledger.reach("snapshot")
        snapshot = self._take_snapshot(reviews)
        lacking = missing(snapshot, self._parts.settings.nightly, self._parts.settings.gate)
        if not lacking:
            return snapshot
        self._ledger.decide("waiting", {"promote": False, "reasons": lacking})
        return None

    def _take_snapshot(self, reviews: Sequence[LabelledReview]) -> Snapshot:
        nightly, activation = self._parts.settings.nightly, self._activation
        trained_on: frozenset[int] = frozenset()
        if activation is not None:
            version = activation.version
            trained_on = self._ledger.patiently(lambda: self._parts.trained_on(version))
        names = self._names(reviews)
        gone = self._ledger.patiently(self._parts.exchange.without_text)
        snapshot = freeze(reviews, names, nightly.shares, weighting(nightly), trained_on, text_gone=gone)
        manifest = snapshot.manifest(nightly.shares, self._seed)
        self._ledger.keep_dataset(snapshot.items(), manifest)
        return snapshot

    def _names(self, reviews: Sequence[LabelledReview]) -> tuple[str, ...]:
        """The classes: the declared labels, else those of the active adapter, else as they are given.

        Where the active adapter has the declared labels, its order stays.
        """
        self._label_set = self._ledger.patiently(self._parts.exchange.label_set)
        of_active = self._active_labels()
        if self._label_set is not None and set(of_active) != set(self._label_set.labels):
            return self._label_set.labels
        return of_active or own_names(review.label for review in reviews if not review.by_models)

    def _active_labels(self) -> tuple[str, ...]:
        """The labels of the active adapter; none where there is none."""
        if self._activation is None:
            return ()
        version = self._activation.version
        return self._ledger.patiently(lambda: self._parts.adapters.find(version)).labels

    def _improve(self, snapshot: Snapshot, scratch: Path) -> None:
        """Fit, judge, and promote or keep."""
        self._ledger.reach("fit")
        active_directory = self._active_directory(snapshot.names, scratch)
        plans, impossible = plan_fits(snapshot, self._parts.settings, active_directory, self._seed)
        if not plans:
            reasons = [f"Recipe {one.name} cannot be fitted: {one.reason}" for one in impossible]
            self._ledger.decide("waiting", {"promote": False, "reasons": reasons})
            return
        fitted, checks, metrics = self._fit_candidates(snapshot, plans, impossible)
        self._ledger.reach("evaluate")
        files = fitted.outcome.files
        candidate = self._parts.load(write_files(files, scratch / "candidate", self._parts.classifier.task))
        # First, so that these rows share their batch with no others and the cache has none of them: the
        # stored copy is asked in the same way.
        first_rows = first_rows_alone(candidate, snapshot)
        active = self._active_scorer()
        evidence = gather(snapshot, active, candidate, checks)
        common = on_common_labels(snapshot, evidence, active, self._label_set)
        metrics |= metrics_of(evidence) | {"confusion": confusion_of(evidence)}
        if common is not None:
            metrics["on_common_labels"] = about_common(common)
        gate, attempts = self._parts.settings.gate, self._ledger.patiently(self._parts.attempts_before)
        verdict = judge(
            evidence,
            gate,
            attempts_before=attempts,
            seed=self._seed,
            is_replacement=self._has_to_go(),
            common=common,
        )
        if fitted.outcome.manifest is None:
            raise RuntimeError("A training run fits adapters, not whole models.")
        version = describe_adapter(fitted.outcome.manifest)
        self._ledger.reach("register")
        if verdict.promote:
            stored = self._register(version, files)
            verdict = verdict.with_check(
                check_stored_copy(stored, scratch / "stored", self._parts.load, snapshot, first_rows)
            )
        if verdict.promote:
            self._promote(version, verdict, metrics)
        else:
            self._keep_rejected(version, files)
            self._ledger.decide("kept", verdict.to_json(), metrics, version.version)

    def _register(self, version: AdapterVersion, files: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """Register the candidate; its files as a worker will fetch them."""
        if self._ledger.is_unrecorded:
            return files
        self._ledger.patiently(lambda: self._parts.adapters.add(version, files))
        return self._ledger.patiently(lambda: self._parts.adapters.files(version.version))

    def _keep_rejected(self, version: AdapterVersion, files: Mapping[str, bytes]) -> None:
        """Register what the gate refused, so that people can look at it, try it and promote it.

        A candidate whose files the database cannot hold is not kept: the run has its figures all the same.
        """
        if self._ledger.is_unrecorded:
            return
        rejected = replace(version, state="rejected")
        try:
            is_new = self._ledger.patiently(lambda: self._parts.adapters.add(rejected, files))
        except AdapterError as err:
            log.warning("rejected_not_kept", adapter=version.version, error=str(err))
            return
        if not is_new:
            self._ledger.patiently(lambda: self._parts.adapters.reject(version.version))

    def _promote(self, version: AdapterVersion, verdict: Verdict, metrics: Mapping[str, Any]) -> None:
        """Let the candidate take over and write it down, in one transaction."""
        self._ledger.reach("promote")
        try:
            self._ledger.promote(version, expected=self._activation, verdict=verdict, metrics=metrics)
        except ActivationConflict as err:
            late = verdict.with_check(Check("active", passed=False, value=0, limit=0, detail=str(err)))
            self._ledger.decide("kept", late.to_json(), metrics, version.version)

    def _fit_candidates(
        self, snapshot: Snapshot, plans: Sequence[Plan], impossible: Sequence[Skipped]
    ) -> tuple[Fitted, HeldOutByFolds, dict[str, Any]]:
        parts = self._parts
        watch = FitWatch(self._ledger, in_turn(plans), self._budget_seconds, parts.clock, parts.tell)
        fitter = CandidateFitter(
            snapshot, parts.classifier, parts.fit, watch.report_of, self._seed, clock=parts.clock
        )

        def fit_one(plan: Plan, seconds: float) -> Fitted:
            watch.begin(plan)
            return fitter.candidate_of(plan, seconds)

        pace = self._ledger.patiently(parts.seconds_a_step)
        done, late = fit_within(plans, self._budget_seconds, fit_one, parts.clock, pace)
        chosen = best(done)
        metrics = {
            "recipes": [about(one) for one in done],
            "skipped": {skipped.name: skipped.reason for skipped in (*impossible, *late)},
            "chosen": chosen.plan.name,
            "chosen_by": chosen.chosen_by,
        }
        log.info("recipe_chosen", recipe=chosen.plan.name, score=round(chosen.score, 4), of=len(done))
        checks = held_out_by_folds([one.checks for one in done], len(snapshot.names))
        return chosen, checks, metrics

    def _active_scorer(self) -> Scorer | None:
        if self._activation is None:
            return None
        version = self._activation.version
        return self._ledger.patiently(lambda: self._parts.load_registered(version))

    def _has_to_go(self) -> bool:
        """Whether the active adapter has seen a review that was erased."""
        if self._activation is None:
            return False
        version = self._activation.version
        return self._ledger.patiently(lambda: self._parts.has_seen_erased(version))

    def _active_directory(self, names: Sequence[str], scratch: Path) -> Path | None:
        """Of the adapter that recipes may continue from; None where there is none, or none that may.

        Where the labels were changed since it was made, a copy of it in the labels of the run.
        """
        if self._activation is None or self._has_to_go():
            return None
        version = self._activation.version
        directory = self._ledger.patiently(lambda: self._parts.directory_of(version))
        if directory is None or self._label_set is None or set(self._active_labels()) == set(names):
            return directory
        return relabelled(directory, self._label_set, scratch / "relabelled")

    def _queue_and_report(self) -> None:
        """Queue what is worth a label next, and report drift."""
        self._ledger.reach("queue")
        if self._activation is not None:  # before the first adapter nothing is scored, so nothing is chosen
            exchange, run = self._parts.exchange, self._ledger.run.id
            questions = self._ledger.patiently(lambda: exchange.questions(self._seed + run))
            if not self._ledger.is_unrecorded:
                queued = self._ledger.patiently(lambda: exchange.add(questions, run))
                log.info("reviews_queued", queued=queued)
        if self._parts.report_drift is not None and not self._ledger.is_unrecorded:
            self._ledger.reach("drift")
            self._parts.report_drift()
