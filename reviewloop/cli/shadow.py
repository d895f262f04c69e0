"""``reviewloop adapters shadow``: an adapter on trial scores live reviews; its answers are not shown."""

import getpass
import sys
from typing import Annotated, Any

import typer

from reviewloop.cli.arguments import configured
from reviewloop.cli.output import FormatOption, RawOption, print_rows
from reviewloop.terminal import say
from reviews.adapter import ShadowRun
from reviews.errors import ReviewLoopError, WrongUse
from reviews.fields import checked_reason
from reviews.sanitise import sanitise
from storage.adapters.registry import AdapterStore
from storage.adapters.shadows import ShadowStore, require_trial
from storage.database import Database

_STATUS = "status"
_DISAGREEMENTS = "disagreements"
_TABLE = (
    "version",
    "agreement",
    "compared",
    "disagreements",
    "rows",
    "share",
    "started_at",
    "ended_at",
    "task",
)
_DISPUTED = ("review_id", "label", "confidence", "shadow_label", "shadow_confidence", "text")


def shadow(
    version: Annotated[
        str | None,
        typer.Argument(
            help="The version to try, or its beginning; or one of the words 'status' and 'disagreements'."
        ),
    ] = None,
    *,
    share: Annotated[float, typer.Option(help="Of the live reviews, above 0 and at most 1.")] = 0.1,
    task: Annotated[str | None, typer.Option(help="Its task; unset, the adapter's or all.")] = None,
    stop: Annotated[bool, typer.Option("--stop", help="End the trial.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many disagreements, the latest first.")] = 100,
    reason: Annotated[str, typer.Option(help="Why, in a sentence; it is kept.")] = "decided by hand",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before a running trial is ended.")] = False,
    output: FormatOption = None,
    raw: RawOption = False,
) -> None:
    """Try an adapter on a share of the live reviews, beside the active one; show its results; end the trial.

    Its answers go to the history and are never shown beside the reviews. Whatever it fails on costs the
    stream no review. A task has one trial at a time: a new one asks before it ends the other. 'status'
    counts how often both adapters agree, 'disagreements' lists the reviews of the latest trial where they
    do not.
    """
    if (version is None) is not stop:
        raise WrongUse("Say what to do: 'shadow VERSION', 'status', 'disagreements' or '--stop'.")
    if not 0 < share <= 1:
        raise WrongUse(f"--share {share:g} is not a share: give more than 0 and at most 1.")
    with configured(task) as (_, database):
        store = ShadowStore(database)
        if stop:
            _stop(store, task, reason)
        elif version == _STATUS:
            rows = (_row(store, run) for run in store.latest(task))
            print_rows(rows, output, table_columns=_TABLE, raw=raw)
        elif version == _DISAGREEMENTS:
            print_rows(_disputed(store, task, limit), output, table_columns=_DISPUTED, raw=raw)
        else:
            _start(database, str(version), task, share, reason=reason, is_agreed=yes)


def _start(
    database: Database, version: str, task: str | None, share: float, *, reason: str, is_agreed: bool
) -> None:
    adapters = AdapterStore(database)
    adapter = adapters.find(version)
    if task not in {None, adapter.task}:
        raise WrongUse(f"{adapter.version} was made for the task '{adapter.task}', not '{task}'.")
    require_trial(adapter, share, adapters.active(adapter.task))
    store = ShadowStore(database)
    running = store.running(adapter.task)
    if running is not None and not is_agreed:
        _confirm_end(store, running)
    run = store.start(adapter, share, getpass.getuser(), checked_reason(reason), instead_of=running)
    say(f"{run.version} scores {run.share:.0%} of the reviews, unseen.", err=True)


def _confirm_end(store: ShadowStore, running: ShadowRun) -> None:
    """Say what a new trial would end, and ask.

    Raises:
        ReviewLoopError: If the user does not agree, or cannot be asked.
    """
    found = store.agreement(running)
    ended = (
        f"This would end the trial of {running.version} for the task '{running.task}', which runs since "
        f"{running.started_at:%Y-%m-%d %H:%M} and scored {found.rows:,} reviews"
    )
    if not sys.stdin.isatty():
        raise ReviewLoopError(f"{ended}: nothing was changed. Say --yes to end it.")
    if not typer.confirm(sanitise(f"{ended}. End it?"), err=True):
        raise ReviewLoopError("Nothing was changed.")


def _disputed(store: ShadowStore, task: str | None, limit: int) -> list[dict[str, Any]]:
    """The disagreements of the latest trial, of a task or of any."""
    runs = store.latest(task, limit=1)
    if not runs:
        raise WrongUse("No adapter was on trial yet: 'reviewloop adapters shadow VERSION' begins a trial.")
    return [
        {
            "task": runs[0].task,
            "review_id": item.review_id,
            "text": item.text,
            "adapter_version": item.served_by,
            "label": item.label,
            "confidence": item.confidence,
            "shadow_version": runs[0].version,
            "shadow_label": item.shadow_label,
            "shadow_confidence": item.shadow_confidence,
        }
        for item in store.disputed(runs[0], limit)
    ]


def _stop(store: ShadowStore, task: str | None, reason: str) -> None:
    running = [run for run in store.latest(task, limit=100) if run.ended_at is None]
    if len(running) != 1:
        found = ", ".join(run.task for run in running) or "none"
        raise WrongUse(f"Trials that run: {found}; name one by --task.")
    is_done = store.stop(running[0], getpass.getuser(), checked_reason(reason))
    say(f"{running[0].version} is on trial no more." if is_done else "It had ended already.", err=True)


def _row(store: ShadowStore, run: ShadowRun) -> dict[str, Any]:
    found = store.agreement(run)
    return {
        "id": run.id,
        "task": run.task,
        "version": run.version,
        "share": run.share,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "decided_by": run.decided_by,
        "reason": run.reason,
        "ended_by": run.ended_by,
        "end_reason": run.end_reason,
        "rows": found.rows,
        "compared": found.compared,
        "agreement": found.share,
        "disagreements": found.compared - found.agreed,
    }
