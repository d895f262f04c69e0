"""``reviewloop adapters promote``, ``rollback`` and ``history``: what serves, by whose decision, and why."""

from typing import TYPE_CHECKING, Annotated

import typer

from reviewloop.cli.rows import Format, chosen_format, print_rows
from reviewloop.visible import say
from reviews.errors import ReviewLoopError, WrongUse

if TYPE_CHECKING:
    from reviews.adapter import Activation, AdapterVersion
    from storage.adapters import AdapterStore

_HISTORY = ("version", "activated_at", "reason", "decided_by", "task", "ended_at")
NOBODY = "none"

TaskOption = Annotated[str | None, typer.Option(help="The task; unset, the configured one.")]


def promote(
    version: Annotated[str, typer.Argument(help="The version, or its beginning.")],
    *,
    reason: Annotated[str, typer.Option(help="Why, in a sentence; it is kept.")] = "promoted by hand",
    expect: Annotated[
        str | None, typer.Option(help="Only if this version serves now; 'none': if none does. For scripts.")
    ] = None,
) -> None:
    """Let an adapter serve its task; running workers take it between two batches.

    Nothing is changed if another adapter took over since this command looked.
    """
    from reviewloop.settings import load_settings
    from reviewloop.wiring import open_database
    from storage.adapters import AdapterStore

    with open_database(load_settings()) as database:
        store = AdapterStore(database)
        adapter = store.find(version)
        current = store.active(adapter.task)
        _require_expected(store, current, expect)
        activate(store, adapter, current, reason)


def rollback(
    *,
    task: TaskOption = None,
    to: Annotated[str | None, typer.Option(help="An adapter that served before, or its beginning.")] = None,
    reason: Annotated[str, typer.Option(help="Why, in a sentence; it is kept.")] = "rolled back by hand",
    expect: Annotated[
        str | None, typer.Option(help="Only if this version serves now, or its beginning. For scripts.")
    ] = None,
) -> None:
    """Bring back the adapter that served before the one that serves now.

    Rolling back twice goes further back, never forth to what was rolled back; --to reaches that by name.
    """
    from reviewloop.settings import load_settings
    from reviewloop.wiring import open_database
    from reviews.activations import before, last_of
    from storage.adapters import AdapterStore

    settings = load_settings()
    with open_database(settings) as database:
        store = AdapterStore(database)
        history = store.history(task or settings.classifier.task)
        _require_expected(store, history[0] if history else None, expect)
        restored = before(history) if to is None else last_of(history, store.find(to).version)
        activate(store, store.find(restored.version), history[0], reason, restores=restored)


def history(
    *,
    task: Annotated[str | None, typer.Option(help="Only of this task.")] = None,
    output: Annotated[
        Format | None, typer.Option("--format", help="Unset: a table on a terminal, jsonl elsewhere.")
    ] = None,
) -> None:
    """What served when, by whose decision, and why; the latest first."""
    from reviewloop.settings import load_settings
    from reviewloop.wiring import open_database
    from reviews.activations import services
    from storage.adapters import AdapterStore

    with open_database(load_settings()) as database:
        found = services(AdapterStore(database).history(task))
    rows = (
        {
            "id": item.activation.id,
            "task": item.activation.task,
            "version": item.activation.version,
            "activated_at": item.activation.activated_at,
            "ended_at": item.ended_at,
            "decided_by": item.activation.decided_by,
            "reason": item.activation.reason,
            "replaced": item.activation.replaced,
            "restores": item.activation.restores,
        }
        for item in found
    )
    print_rows(rows, chosen_format(output), table_columns=_HISTORY)


def activate(
    store: "AdapterStore",
    adapter: "AdapterVersion",
    current: "Activation | None",
    reason: str,
    restores: "Activation | None" = None,
) -> None:
    """Let an adapter take over from what was seen in force, and say so.

    Raises:
        ActivationConflict: If another one came first.
    """
    import getpass

    if not reason.strip() or "\x00" in reason:
        raise WrongUse("--reason is empty: say in a sentence why.")
    if current is not None and current.version == adapter.version:
        say(f"{adapter.version} serves the task '{adapter.task}' already.", err=True)
        return
    done = store.activate(
        adapter, expected=current, decided_by=getpass.getuser(), reason=reason, restores=restores
    )
    instead = f" instead of {done.replaced}" if done.replaced else ""
    say(f"{done.version} serves the task '{done.task}' now{instead}.", err=True)


def _require_expected(store: "AdapterStore", current: "Activation | None", expect: str | None) -> None:
    serving = current.version if current is not None else NOBODY
    if expect is None or (expect if expect == NOBODY else store.find(expect).version) == serving:
        return
    raise ReviewLoopError(f"{serving} serves now, not {expect}: nothing was changed.")
