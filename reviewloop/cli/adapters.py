"""``reviewloop adapters``: the registry of adapters."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from classifier.adapters.manifest import describe_adapter, read_files
from classifier.adapters.store import name_labels
from reviewloop.cli import serving
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
)
from reviewloop.cli.shadow import shadow
from reviewloop.cli.watch import watch
from reviewloop.demo.sample import adapter_directory
from reviewloop.settings import load_settings
from reviewloop.visible import say
from reviewloop.wiring import open_database
from reviews.errors import WrongUse
from storage.adapters.registry import AdapterStore

app = typer.Typer(no_args_is_help=True, help="The registry of adapters, and which of them serves.")
app.command()(serving.promote)
app.command()(serving.rollback)
app.command()(serving.history)
app.command()(shadow)
app.command()(watch)

_TABLE = ("version", "active", "macro_f1", "task", "labels", "accuracy", "created_at", "base_model")


@app.command("list")
def list_adapters(
    task: Annotated[str | None, typer.Option(help="Only of this task.")] = None,
    output: FormatOption = None,
    raw: RawOption = False,
) -> None:
    """Every registered adapter, oldest first, and which is active."""
    settings = load_settings()
    with open_database(settings) as database:
        require_task(settings, database, task)
        store = AdapterStore(database)
        versions = store.list_versions(task)
        active = {store.active(name) for name in {version.task for version in versions}}
    names = {activation.version for activation in active if activation}
    rows = (
        {
            "version": version.version,
            "task": version.task,
            "active": "yes" if version.version in names else "",
            "labels": list(version.labels),
            "base_model": version.base_model,
            "accuracy": version.metrics.get("test_accuracy", version.metrics.get("accuracy")),
            "macro_f1": version.metrics.get("test_macro_f1", version.metrics.get("macro_f1")),
            "created_at": version.created_at,
        }
        for version in versions
    )
    print_rows(rows, chosen_format(output), table_columns=_TABLE, raw=raw)


@app.command()
def show(
    version: Annotated[str, typer.Argument(help="The version, or its beginning.")],
    output: RecordFormatOption = None,
) -> None:
    """One adapter with its metrics and activations."""
    with open_database(load_settings()) as database:
        store = AdapterStore(database)
        found = store.find(version)
        activations = [item for item in store.history(found.task) if item.version == found.version]
    form = chosen_record_format(output)
    if form is not RecordFormat.table:
        print_record({**asdict(found), "activations": list(map(asdict, activations))}, form)
        return
    print_record(asdict(found), form)
    for item in activations:
        say(f"activated {item.activated_at:%Y-%m-%d %H:%M:%S} by {item.decided_by}: {item.reason}")


@app.command()
def add(
    directory: Annotated[
        Path,
        typer.Argument(help="An adapter directory, as 'train' or plain peft writes it; 'demo': the bundled."),
    ],
    *,
    activate: Annotated[bool, typer.Option("--activate", help="Let it serve at once.")] = False,
    reason: Annotated[str, typer.Option(help="Recorded with the activation.")] = "activated when added",
    task: Annotated[
        str | None, typer.Option(help="The task of a plain peft directory; unset, the configured one.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="Names for the classes of a plain peft directory, in order, with commas between."),
    ] = None,
    allow_other_labels: serving.OtherLabelsOption = False,
    yes: serving.YesOption = False,
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
            adapter, current = store.find(described.version), store.active(described.task)
            serving.take_over(database, adapter, current, reason, serving.Consent(allow_other_labels, yes))
    say(described.version)


@app.command()
def activate(
    version: Annotated[str, typer.Argument(help="The version, or its beginning.")],
    *,
    reason: Annotated[str, typer.Option(help="Recorded with the activation.")] = "activated by hand",
    allow_other_labels: serving.OtherLabelsOption = False,
    yes: serving.YesOption = False,
) -> None:
    """Let an adapter serve its task; running workers take it between two batches."""
    with open_database(load_settings()) as database:
        store = AdapterStore(database)
        adapter = store.find(version)
        consent = serving.Consent(allow_other_labels, yes)
        serving.take_over(database, adapter, store.active(adapter.task), reason, consent)
