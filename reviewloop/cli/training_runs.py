"""``reviewloop trainer status``, ``history`` and ``show``: what the trainer did, does, and would wait for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from reviewloop.cli.names import require_task
from reviewloop.cli.rows import (
    FormatOption,
    RawOption,
    RecordFormat,
    RecordFormatOption,
    chosen_format,
    chosen_record_format,
    print_record,
    print_rows,
    print_table,
)
from reviewloop.settings import Settings, load_settings
from reviewloop.visible import say
from reviewloop.wiring import open_database
from reviews.training_run import TrainingRun
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.learning.leases import LeaseStore
from storage.learning.runs import TrainingRunStore, read_pending
from trainer.nightly.runner import lease_name
from trainer.nightly.schedule import next_night

LEFT_OUT_WORDS = {
    "other_label": "whose label is none of the adapter that serves",
    "copy_of_held_out": "that say nearly the same as a test or audit row",
    "copy_of_validation": "that say nearly the same as a validation row",
}
_STATUS = ("task", "active", "last_state", "new_labels", "next_night", "at_work", "last_run")
_HISTORY = ("run", "state", "candidate", "message", "started_at", "trigger", "seconds", "task", "stage")
_SCORES = ("accuracy", "macro_f1", "calibration_error", "audit_accuracy")


def status(*, output: FormatOption = None, raw: RawOption = False) -> None:
    """For each task what serves, who trains it now, how the last run ended, and when the next begins."""
    settings = load_settings()
    with open_database(settings) as database:
        rows = [_status(settings, database, task) for task in settings.consumer.tasks]
    print_rows(rows, chosen_format(output), table_columns=_STATUS, raw=raw)


def history(
    *,
    task: Annotated[str | None, typer.Option(help="Only of this task.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 30,
    output: FormatOption = None,
    raw: RawOption = False,
) -> None:
    """Runs, newest first: what started them, how they ended, and why."""
    settings = load_settings()
    with open_database(settings) as database:
        require_task(settings, database, task)
        runs = TrainingRunStore(database).history(task, limit)
    print_rows(map(_row, runs), chosen_format(output), table_columns=_HISTORY, raw=raw)


def show(
    run: Annotated[int, typer.Argument(help="Its number, as 'history' shows it.")],
    *,
    output: RecordFormatOption = None,
) -> None:
    """One run: the gate's report, what was measured, the recipes that were tried, and its dataset."""
    with open_database(load_settings()) as database:
        found = TrainingRunStore(database).show(run)
    print_run(found, output)


def print_run(run: TrainingRun, output: RecordFormat | None) -> None:
    """A run on standard output."""
    form = chosen_record_format(output)
    if form is RecordFormat.table:
        _print_tables(run)
    else:
        print_record(asdict(run), form)


def in_both_times(moment: datetime) -> str:
    """A moment in UTC, and as the clock on this machine's wall shows it."""
    local = moment.astimezone()
    here = "" if not local.utcoffset() else f" ({local:%Y-%m-%d %H:%M %Z} here)"
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC{here}"


def _status(settings: Settings, database: Database, task: str) -> dict[str, Any]:
    active = AdapterStore(database).active(task)
    held = LeaseStore(database).holder(lease_name(task))
    last = next(iter(TrainingRunStore(database).history(task, 1)), None)
    pending = read_pending(database, task)
    night = next_night(settings.trainer.nightly.cron, datetime.now(UTC))
    return {
        "task": task,
        "active": active.version if active else None,
        "active_since": active.activated_at if active else None,
        "at_work": held.holder if held else None,
        "last_run": last.id if last else None,
        "last_state": last.state if last else None,
        "last_stage": last.stage if last else None,
        "message": _message(last) if last else None,
        "new_labels": pending.new_labels,
        "is_drifting": pending.is_drifting,
        "next_night": in_both_times(night) if night else None,
    }


def _row(run: TrainingRun) -> dict[str, Any]:
    seconds = (run.finished_at - run.started_at).total_seconds() if run.finished_at else None
    return {
        "run": run.id,
        "task": run.task,
        "trigger": run.trigger,
        "state": run.state,
        "stage": run.stage,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "seconds": None if seconds is None else round(seconds, 1),
        "active": run.active_adapter,
        "candidate": run.candidate_adapter,
        "message": _message(run),
    }


def _message(run: TrainingRun) -> str | None:
    """Why it ended as it did, in a sentence or more."""
    return run.error or (" ".join(run.verdict["reasons"]) if run.verdict else None)


def _print_tables(run: TrainingRun) -> None:
    for name, value in _lines(run):
        say(f"{name:>10}  {value}")
    for title, columns, rows in _tables(run):
        print_table(columns, rows, title=title)


def _lines(run: TrainingRun) -> Iterator[tuple[str, str]]:
    yield "run", f"{run.id or 'dry run'}, task {run.task}, {run.trigger}"
    yield "state", f"{run.state} (stage {run.stage})"
    yield "started", in_both_times(run.started_at)
    yield "served", run.active_adapter or "nothing"
    if run.candidate_adapter:
        yield "candidate", run.candidate_adapter
    if run.error:
        yield "error", run.error
    if run.manifest:
        yield "rows", ", ".join(f"{count:,} {name}" for name, count in run.manifest["rows"].items())
        left_out = run.manifest.get("left_out", {})  # runs of earlier versions did not note it
        yield from (
            ("left out", f"{left_out[reason]:,} {meaning}")
            for reason, meaning in LEFT_OUT_WORDS.items()
            if left_out.get(reason)
        )
    if run.state == "planned" and run.metrics:
        yield "would take", _forecast(run.metrics["plan"])
    elif run.metrics:
        yield "recipe", f"{run.metrics['chosen']}, chosen by {run.metrics['chosen_by']}"
    for reason in (run.verdict or {}).get("reasons", ()):
        yield "because", reason


def _tables(run: TrainingRun) -> Iterator[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    if run.verdict and run.verdict.get("checks"):
        yield "The gate", ("passed", "check", "value", "limit"), list(_checks(run.verdict))
    if run.state == "planned" and run.metrics:
        yield (
            "Recipes",
            ("recipe", "from", "rows", "steps", "seconds", "not fitted because"),
            list(_planned(run.metrics)),
        )
    elif run.metrics:
        yield "On the frozen test and audit rows", ("", *_SCORES), list(_scores(run.metrics))
        columns = ("recipe", "macro-F1", "rows", "seconds", "not fitted because")
        yield "Recipes", columns, list(_recipes(run.metrics))


def _forecast(plan: Sequence[Mapping[str, Any]]) -> str:
    """How long all fits would take, in words."""
    steps = sum(one["steps"] for one in plan)
    if any(one["seconds"] is None for one in plan):
        return f"an unknown time: no earlier run tells how long one of its {steps:,} steps takes"
    return f"about {sum(one['seconds'] for one in plan):,.0f} s for {steps:,} steps, as the last run did"


def _planned(metrics: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for one in metrics["plan"]:
        seconds = "" if one["seconds"] is None else f"{one['seconds']:,.0f}"
        yield one["name"], one["start"], f"{one['train_rows']:,}", f"{one['steps']:,}", seconds, ""
    for name, reason in metrics["skipped"].items():
        yield name, "", "", "", "", reason


def _checks(verdict: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for one in verdict["checks"]:
        yield "yes" if one["passed"] else "NO", one["name"], f"{one['value']:.4g}", f"{one['limit']:.4g}"


def _scores(metrics: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for who in ("active", "candidate"):
        if who in metrics:
            yield who, *(f"{metrics[who][name]:.4f}" for name in _SCORES)


def _recipes(metrics: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for one in metrics["recipes"]:
        yield one["name"], f"{one['score']:.4f}", f"{one['train_rows']:,}", f"{one['seconds']:.1f}", ""
    for name, reason in metrics["skipped"].items():
        yield name, "", "", "", reason
