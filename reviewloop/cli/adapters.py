"""``reviewloop adapters``: the registry of adapters and their activations."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from classifier.adapters.manifest import describe_adapter, read_files
from classifier.adapters.store import name_labels
from classifier.ensemble import describe_ensemble
from classifier.number_formats import decisions_of
from reviewloop.cli.activation import activate_adapter, require_expected, take_over
from reviewloop.cli.arguments import configured
from reviewloop.cli.output import (
    FormatOption,
    RawOption,
    RecordFormatOption,
    chosen_format,
    print_record,
    print_rows,
)
from reviewloop.cli.shadow import shadow
from reviewloop.cli.zero_shot import zero_shot
from reviewloop.demo.sample import adapter_directory
from reviewloop.settings import load_settings
from reviewloop.terminal import say
from reviewloop.wiring.registry import members_of, open_database, serving_settings
from reviewloop.wiring.rollback import roll_back_if_worse
from reviews.adapter import services
from reviews.errors import WrongUse
from storage.adapters.promotion import Consent, propose_promotion, propose_rollback
from storage.adapters.registry import AdapterStore
from storage.adapters.rejected import PrunedAdapter, prune_rejected, why_rejected

app = typer.Typer(no_args_is_help=True, help="The registry of adapters, and their activations.")
app.command()(shadow)
app.command("zero-shot")(zero_shot)

_TABLE = (
    "version",
    "state",
    "active",
    "origin",
    "macro_f1",
    "task",
    "labels",
    "accuracy",
    "created_at",
    "base_model",
)


_HISTORY = ("version", "activated_at", "reason", "decided_by", "task", "ended_at")
_WATCHED = {
    "rolled_back": "{active} was rolled back to {previous}.",
    "stays": "{active} stays.",
    "nothing_before": "No adapter was active before {active}: there is nothing to compare it with.",
    "not_comparable": "{active} and {previous} have no two labels in common: they cannot be compared.",
    "overtaken": "Another adapter took over meanwhile: nothing was changed.",
}


TaskOption = Annotated[str | None, typer.Option(help="The task; unset, the configured one.")]
OtherLabelsOption = Annotated[
    bool,
    typer.Option("--allow-other-labels", help="Even if its labels are not those of the active adapter."),
]
YesOption = Annotated[
    bool, typer.Option("--yes", help="Do not ask whether a worse adapter is meant; for scripts.")
]


@app.command("list")
def list_adapters(
    task: Annotated[str | None, typer.Option(help="Only of this task.")] = None,
    output: FormatOption = None,
    raw: RawOption = False,
) -> None:
    """Every registered adapter, oldest first, which is active, and which the gate rejected."""
    with configured(task) as (_, database):
        store = AdapterStore(database)
        adapters = store.list_versions(task)
        active = {store.active(name) for name in {adapter.task for adapter in adapters}}
    names = {activation.version for activation in active if activation}
    rows = (
        {
            "version": adapter.version,
            "task": adapter.task,
            "state": adapter.state,
            "active": "yes" if adapter.version in names else "",
            "origin": adapter.origin,
            "labels": list(adapter.labels),
            "base_model": adapter.base_model,
            "accuracy": adapter.metrics.get("test_accuracy", adapter.metrics.get("accuracy")),
            "macro_f1": adapter.metrics.get("test_macro_f1", adapter.metrics.get("macro_f1")),
            "created_at": adapter.created_at,
        }
        for adapter in adapters
    )
    print_rows(rows, output, table_columns=_TABLE, raw=raw)


@app.command()
def show(
    version: Annotated[str, typer.Argument(help="The version, or its beginning.")],
    output: RecordFormatOption = None,
) -> None:
    """One adapter with its metrics and activations; of a rejected one, what the gate said."""
    with configured() as (settings, database):
        store = AdapterStore(database)
        found = store.find(version)
        activations = [item for item in store.history(found.task) if item.version == found.version]
        members = members_of(store, found.version)
        reasons = why_rejected(database, found.version) if found.is_rejected else ()
    remembered = serving_settings(settings).number_formats
    decided = [] if remembered is None else decisions_of(remembered, found.content_hash)
    form = chosen_format(output)
    fields = asdict(found) | ({"members": list(members)} if members else {})
    fields |= {"rejected_because": list(reasons)} if found.is_rejected else {}
    fields |= {"number_formats": [f"{one.number_format} on {one.processor}: {one.reason}" for one in decided]}
    if form != "table":
        print_record({**fields, "activations": list(map(asdict, activations))}, form)
        return
    print_record(fields, form)
    for item in activations:
        say(f"activated {item.activated_at:%Y-%m-%d %H:%M:%S} by {item.decided_by}: {item.reason}")


@app.command()
def add(
    directory: Annotated[
        Path,
        typer.Argument(help="An adapter directory, as 'train' or plain peft writes it; 'demo': the bundled."),
    ],
    *,
    activate: Annotated[bool, typer.Option("--activate", help="Activate it at once.")] = False,
    reason: Annotated[str, typer.Option(help="Recorded with the activation.")] = "activated when added",
    task: Annotated[
        str | None, typer.Option(help="The task of a plain peft directory; unset, the configured one.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="Names for the classes of a plain peft directory, in order, with commas between."),
    ] = None,
    allow_other_labels: OtherLabelsOption = False,
    yes: YesOption = False,
) -> None:
    """Bring an adapter with its files into the database, where every worker finds it."""
    settings = load_settings()
    directory = adapter_directory(directory)
    manifest, files = read_files(directory, task or settings.classifier.task)
    if task not in {None, manifest.task}:
        raise WrongUse(f"{directory} holds an adapter for the task '{manifest.task}', not '{task}'.")
    if labels is not None:
        manifest, files = name_labels(manifest, files, labels.split(","))
    elif not manifest.has_manifest:
        say(f"Its classes: {', '.join(manifest.labels)}. To name them, add it with --labels.", err=True)
    described = describe_adapter(manifest)
    with open_database(settings) as database:
        store = AdapterStore(database)
        is_new = store.add(described, files)
        say(f"{described.version}: {'added' if is_new else 'was there'}", err=True)
        if activate:
            proposal = propose_promotion(database, described.version)
            take_over(database, proposal, reason, Consent(allow_other_labels, yes))
    say(described.version)


@app.command()
def combine(
    versions: Annotated[list[str], typer.Argument(help="The adapters, by version or its beginning.")],
) -> None:
    """Register the ensemble of several adapters: it answers with the mean of their probabilities.

    It is promoted, rolled back and put on trial like any adapter, and costs as much as its members together.
    """
    with configured() as (_, database):
        store = AdapterStore(database)
        ensemble, files = describe_ensemble([store.find(version) for version in versions])
        is_new = store.add(ensemble, files)
    say(f"{ensemble.version}: {'added' if is_new else 'was there'}", err=True)
    say(ensemble.version)


@app.command(hidden=True)
def activate(
    version: Annotated[str, typer.Argument(help="The version, or its beginning.")],
    *,
    reason: Annotated[str | None, typer.Option(help="Recorded with the activation.")] = None,
    allow_other_labels: OtherLabelsOption = False,
    yes: YesOption = False,
) -> None:
    """The old name of 'promote', which goes in the next version."""
    say("'adapters activate' goes in the next version: say 'adapters promote'.", err=True)
    promote(version, reason=reason, allow_other_labels=allow_other_labels, yes=yes)


@app.command()
def promote(
    version: Annotated[str, typer.Argument(help="The version, or its beginning.")],
    *,
    reason: Annotated[
        str | None,
        typer.Option(help="Why, in a sentence; it is kept. An adapter that the gate rejected needs one."),
    ] = None,
    expect: Annotated[
        str | None,
        typer.Option(help="Only if this version is active now; 'none': if no adapter is. For scripts."),
    ] = None,
    allow_other_labels: OtherLabelsOption = False,
    yes: YesOption = False,
) -> None:
    """Activate an adapter for its task; running workers switch between two batches.

    Nothing is changed if another adapter took over since this command looked. One that is worse than the
    active adapter, by the metrics that both store, is confirmed; one with other labels is refused, and so is
    one that the gate rejected, unless --reason says why it takes over all the same.
    """
    with configured() as (_, database):
        proposal = propose_promotion(database, version)
        require_expected(AdapterStore(database), proposal.current, expect)
        consent = Consent(allow_other_labels, yes, rejected=reason is not None)
        take_over(database, proposal, reason or "promoted by hand", consent)


@app.command()
def prune(
    *,
    older_than: Annotated[
        float | None, typer.Option(min=0, help="In days; unset, trainer.nightly.rejected_days.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show which would go; delete none.")] = False,
    output: FormatOption = None,
    raw: RawOption = False,
) -> None:
    """Delete adapters that the gate rejected a while ago; 'trainer schedule' does it by itself.

    None goes that ever served, is on trial, in an ensemble or the parent of another one. Of one that was on
    trial the record stays, without files.
    """
    with configured() as (settings, database):
        days = settings.trainer.nightly.rejected_days if older_than is None else older_than
        pruned = prune_rejected(database, days, is_rehearsal=dry_run)
    print_rows((one._asdict() for one in pruned), output, table_columns=PrunedAdapter._fields, raw=raw)
    say(f"{len(pruned):,} {'would be' if dry_run else 'were'} deleted.", err=True)


@app.command()
def rollback(
    *,
    task: TaskOption = None,
    to: Annotated[
        str | None, typer.Option(help="A formerly active adapter, or the beginning of its version.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, in a sentence; it is kept.")] = "rolled back by hand",
    expect: Annotated[
        str | None, typer.Option(help="Only if this version (or its beginning) is active now. For scripts.")
    ] = None,
) -> None:
    """Go back to the adapter that was active before the current one.

    Rolling back twice goes further back, never forth to what was rolled back; --to reaches that by name.
    """
    with configured(task) as (settings, database):
        store, name = AdapterStore(database), task or settings.classifier.task
        require_expected(store, store.active(name), expect)
        proposal = propose_rollback(database, name, to)
        activate_adapter(database, proposal, reason)
    if proposal.changed_labels:
        say(f"Labels changed with it: {proposal.changed_labels}", err=True)


@app.command()
def history(
    *,
    task: Annotated[str | None, typer.Option(help="Only of this task.")] = None,
    output: FormatOption = None,
    raw: RawOption = False,
) -> None:
    """The history of activations: which adapter, when, by whom and why; the latest first."""
    with configured(task) as (_, database):
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
    print_rows(rows, output, table_columns=_HISTORY, raw=raw)


@app.command()
def watch(
    task: Annotated[str | None, typer.Option(help="The task; unset, the configured one.")] = None,
) -> None:
    """Compare the active adapter with its predecessor on labelled audit reviews; roll back if it is worse.

    One look; a schedule may look as often as it likes.
    """
    with configured(task) as (settings, database):
        found = roll_back_if_worse(settings, database, task or settings.classifier.task)
    said = _WATCHED[found.outcome].format(active=found.active or "No adapter", previous=found.previous)
    say(said if found.check is None else f"{said} {found.check.detail}")
