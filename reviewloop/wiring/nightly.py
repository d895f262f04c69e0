"""Wiring of training runs."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from threading import Event

import structlog
from pydantic import SecretStr

from classifier.interface import load
from reviewloop.drift_reports.wiring import drift_parts
from reviewloop.settings import Settings
from reviewloop.wiring.erasing import keeps_data
from reviewloop.wiring.registry import (
    base_for,
    load_registered,
    members_of,
    registered_directory,
    serving_settings,
)
from reviews.adapter import Activation
from reviews.errors import ReviewLoopError, WrongUse, describe_exit
from storage.adapters.registry import AdapterStore
from storage.adapters.rejected import prune_rejected
from storage.database import Database
from storage.learning.runs import TrainingRunStore
from trainer.errors import RunStopped
from trainer.fitting.fit import fit
from trainer.fitting.head_fit import FitLora, RunFits
from trainer.gate.verdict import IMPROVEMENT
from trainer.nightly.candidates import pace
from trainer.nightly.labels_and_questions import LabelExchange
from trainer.nightly.progress import RunProgress
from trainer.nightly.run import Parts
from trainer.nightly.runner import Runner
from trainer.nightly.schedule import Upkeep

log = structlog.get_logger()
_CHECK_SECONDS = 0.2
_URL = "REVIEWLOOP_DATABASE__URL"
_RUNS_LOOKED_AT = 20


def make_runner(
    settings: Settings,
    database: Database,
    stopping: Event,
    before: Callable[[str], None] = lambda _: None,
    do_fit: FitLora = fit,
    *,
    tell: Callable[[RunProgress], None] = lambda _: None,
) -> Runner:
    """What does runs of any configured task.

    Args:
        settings: All settings.
        database: Where everything is.
        stopping: Set to end the run at work.
        before: Called with a task before its run looks at the active adapter.
        do_fit: Does a fit of LoRA, in this process or by a group.
        tell: Called with every step of a fit.
    """

    def parts_for(task: str, activation: Activation | None) -> Parts:
        return replace(run_parts(settings, database, task, activation, do_fit), tell=tell)

    return Runner(
        database,
        parts_for,
        stopping,
        settings.trainer.nightly,
        before=before,
    )


def run_parts(
    settings: Settings, database: Database, task: str, activation: Activation | None, do_fit: FitLora = fit
) -> Parts:
    """What a run of a task is made of.

    Args:
        settings: All settings.
        database: Where everything is.
        task: Whose adapter is trained.
        activation: Of the active adapter; None before the first.
        do_fit: Does a fit of LoRA.
    """
    store, runs = AdapterStore(database), TrainingRunStore(database)
    base = base_for(settings, store.find(activation.version) if activation else None)
    # As a worker does: the gate judges the numbers that will serve.
    classifier = serving_settings(settings).model_copy(update={"task": task, "base_model": base})
    trainer = settings.trainer
    return Parts(
        settings=trainer,
        classifier=classifier,
        adapters=store,
        exchange=LabelExchange(database, task, trainer.selection, trainer.nightly),
        directory_of=lambda version: registered_directory(settings, store, version),
        load=lambda directory: load(base, directory, classifier),
        load_registered=lambda version: load_registered(settings, store, version),
        fit=RunFits(classifier, do_fit),
        clock=time.monotonic,
        attempts_before=lambda: runs.comparisons(task, IMPROVEMENT),
        trained_on=lambda version: _trained_on(store, runs, version),
        seconds_a_step=lambda: _last_pace(runs, task),
        report_drift=drift_reporter(settings, database, task),
        has_seen_erased=store.has_seen_erased,
    )


def _trained_on(store: AdapterStore, runs: TrainingRunStore, version: str) -> frozenset[int]:
    """The records that an adapter, or any member of an ensemble, was trained on or chosen by."""
    return frozenset().union(*map(runs.trained_on, members_of(store, version) or (version,)))


def _last_pace(runs: TrainingRunStore, task: str) -> float | None:
    """Seconds a step of the last run of a task that fitted something; None where none did."""
    fitted = (run.metrics["recipes"] for run in runs.history(task, _RUNS_LOOKED_AT) if run.metrics)
    return next(filter(None, map(pace, fitted)), None)


def drift_reporter(settings: Settings, database: Database, task: str) -> Callable[[], None]:
    """Writes the run's drift report and announces drift; where it cannot, the log says why."""

    def report() -> None:
        try:
            parts = drift_parts(database, settings, task)
            if parts.windows.last_scored(parts.reporter.active()) is None:
                log.info("drift_not_reported", task=task, detail="Nothing was scored since the promotion.")
                return
            found = parts.reporter.report(wants_alert=True)
            parts.announce()
        except ReviewLoopError as err:  # the run has decided; a missing report undoes nothing
            log.warning("drift_not_reported", task=task, error=str(err))
        else:
            log.info("drift_reported", task=task, verdict=found.verdict)

    return report


def tasks_of(settings: Settings, asked: str | None) -> tuple[str, ...]:
    """The task asked for, else every task that the workers score for.

    Raises:
        WrongUse: If no worker scores for the task asked for.
    """
    known = settings.consumer.tasks
    if asked is None:
        return known
    if asked not in known:
        raise WrongUse(f"No worker scores for the task '{asked}'; consumer.tasks has {', '.join(known)}.")
    return (asked,)


def run_in_child(task: str, trigger: str, stopping: Event, request: int | None = None) -> None:
    """A run in a process of its own: when it ends, all that it had in memory, or on a GPU, is free again.

    Args:
        task: Whose adapter is trained.
        trigger: What asked for the run.
        stopping: Passed on as SIGTERM; the run is waited for.
        request: The request that becomes this run.

    Raises:
        RunStopped: If it was told to stop.
        ReviewLoopError: If it failed; its log says why.
    """
    command = ["trainer", "run", "--task", task, "--trigger", trigger, "--format", "json"]
    command += [] if request is None else ["--request", str(request)]
    _in_child(f"The run of the task '{task}'", command, stopping)


def retention_job(settings: Settings, stopping: Event) -> list[Upkeep]:
    """What a schedule does about aged data: nothing where everything is kept, or its role may not."""
    if settings.retention.keeps_everything or not keeps_data(settings, "retention"):
        return []
    return [
        Upkeep(
            "retention",
            settings.retention.cron,
            "retention.cron",
            lambda: _in_child(
                "The deletion of aged data",
                ["data", "retain", "--format", "jsonl"],
                stopping,
                settings.retention.database_url,
            ),
        )
    ]


def rejected_job(settings: Settings, database: Database) -> list[Upkeep]:
    """What a schedule does about adapters that the gate rejected: it deletes them after a while."""

    def prune() -> None:
        pruned = prune_rejected(database, settings.trainer.nightly.rejected_days)
        if pruned:
            log.info("rejected_adapters_pruned", adapters=[one.version for one in pruned])

    return [Upkeep("rejected adapters", settings.retention.cron, "retention.cron", prune)]


def export_job(settings: Settings, stopping: Event) -> list[Upkeep]:
    """What a schedule exports: nothing without a cron expression.

    Raises:
        WrongUse: If there is one, and no target.
    """
    if settings.export.cron is None:
        return []
    if settings.export.target is None:
        raise WrongUse("export.cron says when, and nothing says where to: set export.target.")
    return [
        Upkeep(
            "export",
            settings.export.cron,
            "export.cron",
            lambda: _in_child(
                "The export", ["export", "--format", "jsonl"], stopping, settings.export.database_url
            ),
        )
    ]


def _in_child(what: str, command: list[str], stopping: Event, database_url: SecretStr | None = None) -> None:
    """A command of ours in a process of its own, to its end; with a database URL of its own, if given."""
    arguments = [sys.executable, "-m", "reviewloop", *command]
    own = {} if database_url is None else {_URL: database_url.get_secret_value()}
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, env=os.environ | own) as child:
        while child.poll() is None:
            if stopping.wait(_CHECK_SECONDS):
                child.terminate()
                child.wait()
    if stopping.is_set():
        raise RunStopped(f"{what} was told to stop.")
    if child.returncode:
        raise ReviewLoopError(f"{what} failed ({describe_exit(child.returncode)}); its own log is above.")
