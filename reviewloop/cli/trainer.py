"""``reviewloop trainer``: training runs, now or on schedule, and their history."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from threading import Event
from typing import Annotated, Any

import structlog
import typer

from reviewloop.cli.arguments import configured
from reviewloop.cli.output import (
    Format,
    FormatOption,
    RawOption,
    RecordFormatOption,
    chosen_format,
    print_record,
    print_rows,
    print_table,
)
from reviewloop.cli.running import on_signals
from reviewloop.cli.training_output import show_fits
from reviewloop.integrations.mlflow_mirror import mirroring
from reviewloop.operations.logs import configure_logging
from reviewloop.settings import Settings, load_settings
from reviewloop.terminal import say
from reviewloop.wiring.erasing import erasure_job
from reviewloop.wiring.nightly import (
    export_job,
    make_runner,
    rejected_job,
    retention_job,
    run_in_child,
    tasks_of,
)
from reviewloop.wiring.registry import open_database
from reviewloop.wiring.rollback import roll_back_if_worse
from reviewloop.wiring.zero_shot import standardise_again
from reviews.errors import ReviewLoopError, Unavailable, WrongUse
from reviews.training_run import LEFT_OUT_WORDS, TrainingRun, fits_in_words, steps_in_words
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.learning.leases import LeaseStore, this_process, training_lease
from storage.learning.run_requests import RunRequestStore
from storage.learning.runs import TrainingRunStore, read_pending
from trainer.fitting.fit import fit
from trainer.fitting.head_fit import FitLora
from trainer.nightly.requested import Requests
from trainer.nightly.runner import Order
from trainer.nightly.schedule import Schedule, next_run

app = typer.Typer(no_args_is_help=True, help="Labels in, better adapters out: every night, or now.")

_STATUS = ("task", "active", "last_state", "new_labels", "next_night", "at_work", "last_run")
_HISTORY = ("run", "state", "candidate", "message", "started_at", "trigger", "seconds", "task", "stage")
_SCORES = ("accuracy", "macro_f1", "calibration_error", "audit_accuracy", "audit_macro_f1")

TaskOption = Annotated[str | None, typer.Option(help="Only this task; unset, every task of consumer.tasks.")]


@app.command()
def run(
    *,
    task: TaskOption = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what a run would fit and how long it would take; fit nothing."),
    ] = False,
    evaluate_only: Annotated[
        bool, typer.Option("--evaluate-only", help="Fit and judge candidates, and change nothing.")
    ] = False,
    budget_seconds: Annotated[float | None, typer.Option(min=0, help="Time for fitting.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of everything random.")] = None,
    output: RecordFormatOption = None,
    trigger: Annotated[str, typer.Option(hidden=True)] = "manual",
    request: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Fit candidates on what is labelled; promote the best if the gate lets it, else say why not.

    SIGTERM ends the run; the active adapter stays. Each task's run needs the task's lease: of two
    trainers, one works. torchrun may start it: the first process does the run, the others fit with it.
    """
    if dry_run and evaluate_only:
        raise WrongUse("--dry-run fits nothing and --evaluate-only fits candidates: give one of them.")
    configure_logging()
    settings, stopping = load_settings(), Event()
    options = settings.trainer
    failed: list[ReviewLoopError] = []
    with ExitStack() as opened:
        do_fit = opened.enter_context(_fitter(settings))
        if do_fit is None:
            return
        opened.enter_context(on_signals(stopping))
        database = opened.enter_context(open_database(settings))
        tell = opened.enter_context(show_fits())
        runner = make_runner(
            settings,
            database,
            stopping,
            lambda name: _before_a_run(settings, database, name),
            do_fit,
            tell=tell,
        )
        do = runner.plan if dry_run else runner.evaluate if evaluate_only else runner.run
        for name in tasks_of(settings, task):
            budget = options.nightly.budget_seconds if budget_seconds is None else budget_seconds
            order = Order(name, trigger, options.seed if seed is None else seed, budget, request)
            try:
                done = do(order)
            except ReviewLoopError as err:
                failed.append(err)  # another task has labels of its own
                if request is not None:
                    with suppress(Unavailable):  # it expires by itself
                        RunRequestStore(database).fail(request, str(err))
                if stopping.is_set():
                    break
                continue
            print_run(done, output)
    for more in failed[1:]:
        say(f"Error: {more}", err=True)
    if failed:
        raise failed[0]


@contextmanager
def _fitter(settings: Settings) -> Iterator[FitLora | None]:
    """What does a run's fits; None in a process that has fitted with the first one until that was done."""
    if not _is_one_of_several():
        yield fit
        return
    from trainer.fitting.fitting_group import open_fitting_group

    with open_fitting_group(settings.classifier.device) as group:
        if not group.is_first:
            group.follow()
        yield group.fit if group.is_first else None


def _is_one_of_several() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@app.command()
def schedule(*, task: TaskOption = None) -> None:
    """Start a run every night, and before it when labels, drift or a person ask for one; until SIGTERM.

    The hour is trainer.nightly.cron, in UTC; a run that was missed is made up for within
    trainer.nightly.misfire_grace_seconds. Any number of these may run: the task's lease lets one work.
    """
    if _is_one_of_several():
        raise WrongUse("Several processes do one run: let torchrun start 'trainer run', not the schedule.")
    configure_logging()
    settings, stopping = load_settings(), Event()
    tasks = tasks_of(settings, task)
    with on_signals(stopping), open_database(settings) as database:
        requests = Requests(
            RunRequestStore(database),
            LeaseStore(database),
            tasks,
            holder=this_process(),
            start=lambda request: run_in_child(request.task, "requested", stopping, request.id),
        )
        planned = Schedule(
            tasks,
            settings.trainer.nightly,
            lambda name, trigger: run_in_child(name, trigger, stopping),
            lambda name: read_pending(database, name),
            began=TrainingRunStore(database).last_began,
            is_at_work=lambda name: LeaseStore(database).holder(training_lease(name)) is not None,
            requests=requests,
            upkeep=[
                *retention_job(settings, stopping),
                *rejected_job(settings, database),
                *erasure_job(settings, stopping),
                *export_job(settings, stopping),
            ],
        )
        _say_when(settings, tasks)
        with mirroring(settings.mlflow, database, stopping):
            planned.run(stopping)


def _before_a_run(settings: Settings, database: Database, task: str) -> None:
    """Roll back the active adapter if it is worse than its predecessor; standardise a zero-shot one again.

    If either cannot be done, the run goes on.
    """
    log = structlog.get_logger()
    for event, look in (
        ("adapter_not_compared", roll_back_if_worse),
        ("zero_shot_not_standardised", standardise_again),
    ):
        try:
            look(settings, database, task)
        except Unavailable:
            raise
        except ReviewLoopError as err:
            log.warning(event, task=task, error=str(err))


def _say_when(settings: Settings, tasks: tuple[str, ...]) -> None:
    night = next_run(settings.trainer.nightly.cron, datetime.now(UTC))
    when = in_both_times(night) if night else "never"
    say(f"Tasks: {', '.join(tasks)}. The next nightly run begins {when}.", err=True)


@app.command()
def status(*, output: FormatOption = None, raw: RawOption = False) -> None:
    """For each task: the active adapter, the trainer at work, the last run, and the start of the next."""
    with configured() as (settings, database):
        rows = [_status(settings, database, task) for task in settings.consumer.tasks]
    print_rows(rows, output, table_columns=_STATUS, raw=raw)


@app.command()
def history(
    *,
    task: Annotated[str | None, typer.Option(help="Only of this task.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 30,
    output: FormatOption = None,
    raw: RawOption = False,
) -> None:
    """Runs, newest first: what started them, how they ended, and why."""
    with configured(task) as (_, database):
        runs = TrainingRunStore(database).history(task, limit)
    print_rows(map(_row, runs), output, table_columns=_HISTORY, raw=raw)


@app.command()
def show(
    run: Annotated[int, typer.Argument(help="Its number, as 'history' shows it.")],
    *,
    output: RecordFormatOption = None,
) -> None:
    """One run: the gate's report, what was measured, the recipes that were tried, and its dataset."""
    with configured() as (_, database):
        found = TrainingRunStore(database).show(run)
    print_run(found, output)


def print_run(run: TrainingRun, output: Format | None) -> None:
    """A run on standard output."""
    form = chosen_format(output)
    if form == "table":
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
    held = LeaseStore(database).holder(training_lease(task))
    last = next(iter(TrainingRunStore(database).history(task, 1)), None)
    pending = read_pending(database, task)
    night = next_run(settings.trainer.nightly.cron, datetime.now(UTC))
    return {
        "task": task,
        "active": active.version if active else None,
        "active_since": active.activated_at if active else None,
        "at_work": held.holder if held else None,
        "last_run": last.id if last else None,
        "last_state": last.state if last else None,
        "last_stage": last.stage if last else None,
        "progress": last.progress if last else None,
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
    if run.progress and run.finished_at is None:
        yield "progress", fits_in_words(run.progress)
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
            ("recipe", "kind", "from", "rows", "steps", "seconds", "not fitted because"),
            list(_planned(run.metrics)),
        )
    elif run.metrics:
        yield "On the rows that the gate judged by", ("", *_SCORES), list(_scores(run.metrics))
        columns = ("recipe", "kind", "macro-F1", "rows", "steps", "seconds", "not fitted because")
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
        rows, steps = f"{one['train_rows']:,}", steps_in_words(one)
        yield one["name"], _kind(one), one["start"], rows, steps, seconds, ""
    for name, reason in metrics["skipped"].items():
        yield name, "", "", "", "", "", reason


def _kind(recipe: Mapping[str, Any]) -> str:
    """What was fitted; runs before there were heads do not say."""
    return str(recipe.get("kind", "lora"))


def _checks(verdict: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for one in verdict["checks"]:
        value = round(one["value"], 6) + 0  # no more than rounding is zero
        yield "yes" if one["passed"] else "NO", one["name"], f"{value:.4g}", f"{one['limit']:.4g}"


def _scores(metrics: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for who in ("active", "candidate"):
        if who in metrics:
            yield who, *(_score(metrics[who], name) for name in _SCORES)


def _score(scores: Mapping[str, float], name: str) -> str:
    """A figure, and its 95 % interval where one is stored: runs of earlier versions have none."""
    if name not in scores:
        return "–"
    said = f"{scores[name]:.4f}"
    if f"{name}_low" not in scores:
        return said
    return f"{said} ({scores[f'{name}_low']:.3f} to {scores[f'{name}_high']:.3f})"


def _recipes(metrics: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for one in metrics["recipes"]:
        score, rows = f"{one['score']:.4f}", f"{one['train_rows']:,}"
        yield one["name"], _kind(one), score, rows, steps_in_words(one), f"{one['seconds']:.1f}", ""
    for name, reason in metrics["skipped"].items():
        yield name, "", "", "", "", "", reason
