"""``reviewloop adapters shadow``: an adapter on trial scores live reviews, and nobody sees what it says."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from reviewloop.cli.rows import Format, chosen_format, print_rows
from reviewloop.visible import say
from reviews.errors import WrongUse

if TYPE_CHECKING:
    from reviews.adapter import ShadowRun
    from storage.database import Database
    from storage.shadows import ShadowStore

_STATUS = "status"
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


def shadow(
    version: Annotated[
        str | None, typer.Argument(help="The version to try, or its beginning; or the word 'status'.")
    ] = None,
    *,
    share: Annotated[float, typer.Option(help="Of the live reviews, above 0 and at most 1.")] = 0.1,
    task: Annotated[str | None, typer.Option(help="Its task; unset, the adapter's or all.")] = None,
    stop: Annotated[bool, typer.Option("--stop", help="End the trial.")] = False,
    output: Annotated[
        Format | None, typer.Option("--format", help="Unset: a table on a terminal, jsonl elsewhere.")
    ] = None,
) -> None:
    """Try an adapter on a share of the live reviews beside the one that serves; see how it does; end it.

    Its answers go to the history and are never shown. Whatever it fails on costs the stream no review. A
    trial ends the one before it of the same task.
    """
    from reviewloop.settings import load_settings
    from reviewloop.wiring import open_database
    from storage.shadows import ShadowStore

    if (version is None) is not stop:
        raise WrongUse("Say what to do: 'shadow VERSION', 'shadow status' or 'shadow --stop'.")
    if not 0 < share <= 1:
        raise WrongUse(f"--share {share:g} is no share: give more than 0 and at most 1.")
    with open_database(load_settings()) as database:
        store = ShadowStore(database)
        if stop:
            _stop(store, task)
        elif version == _STATUS:
            rows = (_row(store, run) for run in store.latest(task))
            print_rows(rows, chosen_format(output), table_columns=_TABLE)
        else:
            _start(database, str(version), task, share)


def _start(database: "Database", version: str, task: str | None, share: float) -> None:
    import getpass

    from storage.adapters import AdapterStore
    from storage.shadows import ShadowStore

    adapters = AdapterStore(database)
    adapter = adapters.find(version)
    if task not in {None, adapter.task}:
        raise WrongUse(f"{adapter.version} was made for the task '{adapter.task}', not '{task}'.")
    active = adapters.active(adapter.task)
    if active is not None and active.version == adapter.version:
        raise WrongUse(f"{adapter.version} serves already: there is nothing to compare it with.")
    run = ShadowStore(database).start(adapter, share, getpass.getuser())
    say(f"{run.version} scores {run.share:.0%} of the reviews, unseen.", err=True)


def _stop(store: "ShadowStore", task: str | None) -> None:
    running = [run for run in store.latest(task, limit=100) if run.ended_at is None]
    if len(running) != 1:
        found = ", ".join(run.task for run in running) or "none"
        raise WrongUse(f"Trials that run: {found}; name one by --task.")
    run = store.stop(running[0].task)
    say(f"{running[0].version} is on trial no more." if run else "It had ended already.", err=True)


def _row(store: "ShadowStore", run: "ShadowRun") -> dict[str, Any]:
    found = store.agreement(run)
    return {
        "id": run.id,
        "task": run.task,
        "version": run.version,
        "share": run.share,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "decided_by": run.decided_by,
        "rows": found.rows,
        "compared": found.compared,
        "agreement": found.share,
        "disagreements": found.compared - found.agreed,
    }
