"""``reviewloop adapters promote``, ``rollback`` and ``history``: what serves, by whose decision, and why."""

import getpass
import json
import sys
from collections import Counter
from typing import Annotated, Any, NamedTuple

import typer

from classifier.adapters.manifest import MANIFEST
from reviewloop.cli.names import require_task
from reviewloop.cli.rows import Format, RawOption, chosen_format, print_rows
from reviewloop.settings import load_settings
from reviewloop.visible import say
from reviewloop.wiring import open_database
from reviews.adapter import (
    Activation,
    AdapterVersion,
    ComparedMetric,
    before,
    compare_metrics,
    last_of,
    services,
)
from reviews.errors import ReviewLoopError, WrongUse
from reviews.sanitise import sanitise
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.labels.store import LabelStore

_HISTORY = ("version", "activated_at", "reason", "decided_by", "task", "ended_at")
NOBODY = "none"

TaskOption = Annotated[str | None, typer.Option(help="The task; unset, the configured one.")]
OtherLabelsOption = Annotated[
    bool,
    typer.Option("--allow-other-labels", help="Even if its labels are not those of the adapter that serves."),
]
YesOption = Annotated[
    bool, typer.Option("--yes", help="Do not ask whether a worse adapter is meant; for scripts.")
]


class Consent(NamedTuple):
    """What a person agreed to beforehand.

    Attributes:
        other_labels: That the labels of the task change.
        worse: That the adapter is worse than the one that serves, by what both store.
    """

    other_labels: bool = False
    worse: bool = False


def promote(
    version: Annotated[str, typer.Argument(help="The version, or its beginning.")],
    *,
    reason: Annotated[str, typer.Option(help="Why, in a sentence; it is kept.")] = "promoted by hand",
    expect: Annotated[
        str | None, typer.Option(help="Only if this version serves now; 'none': if none does. For scripts.")
    ] = None,
    allow_other_labels: OtherLabelsOption = False,
    yes: YesOption = False,
) -> None:
    """Let an adapter serve its task; running workers take it between two batches.

    Nothing is changed if another adapter took over since this command looked. One that is worse than the
    adapter that serves, by the metrics that both store, is confirmed; one with other labels is refused.
    """
    with open_database(load_settings()) as database:
        store = AdapterStore(database)
        adapter = store.find(version)
        current = store.active(adapter.task)
        _require_expected(store, current, expect)
        take_over(database, adapter, current, reason, Consent(allow_other_labels, yes))


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
    settings = load_settings()
    with open_database(settings) as database:
        require_task(settings, database, task)
        store = AdapterStore(database)
        history = store.history(task or settings.classifier.task)
        _require_expected(store, history[0] if history else None, expect)
        restored = before(history) if to is None else last_of(history, store.find(to).version)
        adapter = store.find(restored.version)
        changed = _changed_labels(adapter, store.find(history[0].version))
        activate(store, adapter, history[0], reason, restores=restored)
    if changed:
        say(f"Labels changed with it: {changed}", err=True)


def history(
    *,
    task: Annotated[str | None, typer.Option(help="Only of this task.")] = None,
    output: Annotated[
        Format | None, typer.Option("--format", help="Unset: a table on a terminal, jsonl elsewhere.")
    ] = None,
    raw: RawOption = False,
) -> None:
    """What served when, by whose decision, and why; the latest first."""
    settings = load_settings()
    with open_database(settings) as database:
        require_task(settings, database, task)
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
    print_rows(rows, chosen_format(output), table_columns=_HISTORY, raw=raw)


def take_over(
    database: Database,
    adapter: AdapterVersion,
    current: Activation | None,
    reason: str,
    consent: Consent,
) -> None:
    """Let an adapter take over from what was seen in force, if a person means what comes of it.

    Raises:
        WrongUse: If its labels are others than those of what serves, and nobody agreed to that.
        ReviewLoopError: If it is worse than what serves, and nobody agreed to that.
        ActivationConflict: If another one came first.
    """
    store = AdapterStore(database)
    if current is not None and current.version != adapter.version:
        serving = store.find(current.version)
        _require_same_labels(database, adapter, serving, allowed=consent.other_labels)
        _confirm_if_worse(store, adapter, serving, agreed=consent.worse)
    activate(store, adapter, current, reason)


def activate(
    store: AdapterStore,
    adapter: AdapterVersion,
    current: Activation | None,
    reason: str,
    restores: Activation | None = None,
) -> None:
    """Let an adapter take over from what was seen in force, and say so.

    Raises:
        ActivationConflict: If another one came first.
    """
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


def _require_expected(store: AdapterStore, current: Activation | None, expect: str | None) -> None:
    serving = current.version if current is not None else NOBODY
    if expect is None or (expect if expect == NOBODY else store.find(expect).version) == serving:
        return
    raise ReviewLoopError(f"{serving} serves now, not {expect}: nothing was changed.")


def _changed_labels(adapter: AdapterVersion, serving: AdapterVersion) -> str:
    """What becomes of the labels of a task, in a sentence; empty where they stay the same."""
    if set(adapter.labels) == set(serving.labels):
        return ""
    new, old = (", ".join(one.labels) for one in (adapter, serving))
    return f"{adapter.version} answers with {new}; {serving.version}, which serves now, with {old}."


def _require_same_labels(
    database: Database, adapter: AdapterVersion, serving: AdapterVersion, *, allowed: bool
) -> None:
    changed = _changed_labels(adapter, serving)
    if not changed:
        return
    means = _old_answers(database, adapter)
    if not allowed:
        raise WrongUse(
            f"{changed} Nothing was changed. If the labels are to change, say --allow-other-labels. {means} "
            "If only their names are missing, give them to 'adapters add DIR --labels'."
        )
    say(f"{changed} {means}", err=True)


def _old_answers(database: Database, adapter: AdapterVersion) -> str:
    """What other labels mean for answers that people gave."""
    answers = LabelStore(database).latest_answers(adapter.task)
    retired = Counter(one.label for one in answers if one.label not in {None, *adapter.labels})
    if not retired:
        return "No answer of a person names a label that would go."
    named = ", ".join(f"{count:,} '{label}'" for label, count in retired.most_common())
    return (
        f"Answers of people that name labels which go ({named}) are kept and shown as human_label, but train "
        "and judge no more; questions in the queue are asked with the new labels."
    )


def _confirm_if_worse(
    store: AdapterStore, adapter: AdapterVersion, serving: AdapterVersion, *, agreed: bool
) -> None:
    """Say how an adapter compares with what serves; one that is worse needs a yes."""
    compared = compare_metrics(adapter, serving)
    if compared is None:
        return
    found = (
        f"{compared.name}: {adapter.version} {compared.candidate:.3f}, {serving.version} "
        f"{compared.serving:.3f}, {_measured_on(store, adapter, serving, compared)}."
    )
    say(found, err=True)
    if not compared.is_worse or agreed:
        return
    if not sys.stdin.isatty():
        raise ReviewLoopError(
            f"{adapter.version} is worse than {serving.version}, which serves now: nothing was changed. Say "
            "--yes to let it serve all the same, or try it unseen by 'reviewloop adapters shadow'."
        )
    if not typer.confirm(sanitise(f"{adapter.version} is worse. Let it serve all the same?"), err=True):
        raise ReviewLoopError("Nothing was changed.")


def _measured_on(
    store: AdapterStore, adapter: AdapterVersion, serving: AdapterVersion, compared: ComparedMetric
) -> str:
    """Whether the two figures are of the same rows, as far as the adapters say so."""
    hashes = [_data_hashes(store, one.version).get(compared.split) for one in (adapter, serving)]
    if None in hashes:
        return "nobody knows whether on the same rows"
    return "on the same rows" if hashes[0] == hashes[1] else "each on rows of its own"


def _data_hashes(store: AdapterStore, version: str) -> dict[str, Any]:
    """Hashes of the rows that an adapter was made and measured with, by split; empty where it says none."""
    content = store.file(version, MANIFEST)
    if content is None:
        return {}
    hashes = json.loads(content).get("training", {}).get("data_sha256")
    return hashes if isinstance(hashes, dict) else {}
