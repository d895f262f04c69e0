"""``reviewloop trainer``: nightly runs, now or by the clock."""

import os
from datetime import UTC, datetime
from threading import Event
from typing import Annotated

import structlog
import typer

from reviewloop.cli import training_runs
from reviewloop.cli.processes import on_signals
from reviewloop.cli.rows import RecordFormatOption
from reviewloop.cli.watch import look
from reviewloop.logs import configure_logging
from reviewloop.nights import make_runner, run_in_child, tasks_of
from reviewloop.settings import Settings, load_settings
from reviewloop.visible import say
from reviewloop.wiring import open_database
from reviews.errors import ReviewLoopError, Unavailable, WrongUse
from storage.database import Database
from storage.learning.leases import LeaseStore
from storage.learning.runs import TrainingRunStore, read_pending
from trainer.nightly.runner import Order, lease_name
from trainer.nightly.schedule import Schedule, next_night

app = typer.Typer(no_args_is_help=True, help="Labels in, better adapters out: every night, or now.")
app.command()(training_runs.status)
app.command()(training_runs.history)
app.command()(training_runs.show)

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
) -> None:
    """Fit candidates on what is labelled; promote the best if the gate lets it, else say why not.

    SIGTERM ends the run; what serves goes on. Each task's run needs the task's lease: of two trainers, one
    works.
    """
    if dry_run and evaluate_only:
        raise WrongUse("--dry-run fits nothing and --evaluate-only fits candidates: give one of them.")
    configure_logging(debug=bool(os.environ.get("REVIEWLOOP_DEBUG")))
    settings, stopping = load_settings(), Event()
    options = settings.trainer
    failed: list[ReviewLoopError] = []
    with on_signals(stopping), open_database(settings) as database:
        runner = make_runner(
            settings, database, stopping, before=lambda name: _look_back(settings, database, name)
        )
        do = runner.plan if dry_run else runner.evaluate if evaluate_only else runner.run
        for name in tasks_of(settings, task):
            budget = options.nightly.budget_seconds if budget_seconds is None else budget_seconds
            order = Order(name, trigger, options.seed if seed is None else seed, budget)
            try:
                done = do(order)
            except ReviewLoopError as err:
                failed.append(err)  # another task has labels of its own
                if stopping.is_set():
                    break
                continue
            training_runs.print_run(done, output)
    for more in failed[1:]:
        say(f"Error: {more}", err=True)
    if failed:
        raise failed[0]


@app.command()
def schedule(*, task: TaskOption = None) -> None:
    """Start a run every night, and before it when enough labels or drift ask for one; until SIGTERM.

    The hour is trainer.nightly.cron, in UTC; a night that nobody began is made up for within
    trainer.nightly.misfire_grace_seconds. Any number of these may run: the task's lease lets one work.
    """
    configure_logging(debug=bool(os.environ.get("REVIEWLOOP_DEBUG")))
    settings, stopping = load_settings(), Event()
    tasks = tasks_of(settings, task)
    with on_signals(stopping), open_database(settings) as database:
        planned = Schedule(
            tasks,
            settings.trainer.nightly,
            lambda name, trigger: run_in_child(name, trigger, stopping),
            lambda name: read_pending(database, name),
            began=TrainingRunStore(database).last_began,
            is_at_work=lambda name: LeaseStore(database).holder(lease_name(name)) is not None,
        )
        _say_when(settings, tasks)
        planned.run(stopping)


def _look_back(settings: Settings, database: Database, task: str) -> None:
    """Whoever is worse than what it replaced goes before the run; where nobody can tell, the run goes on.

    Raises:
        Unavailable: If the database does not answer.
    """
    try:
        look(settings, database, task)
    except Unavailable:
        raise
    except ReviewLoopError as err:
        structlog.get_logger().warning("adapter_not_compared", task=task, error=str(err))


def _say_when(settings: Settings, tasks: tuple[str, ...]) -> None:
    night = next_night(settings.trainer.nightly.cron, datetime.now(UTC))
    when = training_runs.in_both_times(night) if night else "never"
    say(f"Tasks: {', '.join(tasks)}. The next night begins {when}.", err=True)
