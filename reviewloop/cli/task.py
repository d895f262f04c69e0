"""``reviewloop task``: the labels of a task, and how they change."""

import getpass
from typing import Annotated, Any

import typer

from reviewloop.cli.arguments import configured
from reviewloop.cli.output import FormatOption, RawOption, print_rows
from reviewloop.terminal import say
from reviews.errors import WrongUse
from reviews.fields import MAX_ID_CHARACTERS
from reviews.label_set import LabelChange
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.labels.label_sets import ChangeEffect, LabelSetStore

app = typer.Typer(no_args_is_help=True, help="The labels of a task, and how they change.")

_VERSIONS = ("version", "labels", "change", "declared_by", "declared_at")
_MOST_ASKED = 10_000

TaskOption = Annotated[str | None, typer.Option(help="The task; unset, the classifier's.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Count what would be touched; change nothing.")]
AskOption = Annotated[
    int,
    typer.Option(
        "--ask-again",
        min=0,
        max=_MOST_ASKED,
        help="Ask again about at most so many reviews, besides those of the audit.",
    ),
]


@app.command()
def labels(*, task: TaskOption = None, output: FormatOption = None, raw: RawOption = False) -> None:
    """The labels of a task, and every change of them, the oldest first."""
    with configured(task) as (settings, database):
        wanted = task or settings.classifier.task
        store = LabelSetStore(database)
        current, versions = store.current(wanted), store.history(wanted)
    rows = [
        {
            "task": wanted,
            "version": one.version,
            "labels": ", ".join(one.labels),
            "change": one.change.sentence if one.change else "",
            "declared_by": one.declared_by,
            "declared_at": one.declared_at,
        }
        for one in versions
    ] or [_undeclared(wanted, current.labels)]
    print_rows(rows, output, table_columns=_VERSIONS, raw=raw)


@app.command()
def rename_label(
    old: Annotated[str, typer.Argument(help="The label.")],
    new: Annotated[str, typer.Argument(help="Its new name.")],
    *,
    task: TaskOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Give a label another name; its answers count under the new one."""
    _declare(task, LabelChange("rename", (old,), (new,)), dry_run=dry_run)


@app.command()
def merge_labels(
    old: Annotated[list[str], typer.Argument(help="The labels, two or more.")],
    *,
    into: Annotated[str, typer.Option(help="The label that they become: one of them, or a new name.")],
    task: TaskOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Make several labels one; their answers count under its name."""
    _declare(task, LabelChange("merge", tuple(old), (into,)), dry_run=dry_run)


@app.command()
def split_label(
    old: Annotated[str, typer.Argument(help="The label.")],
    new: Annotated[list[str], typer.Argument(help="The labels that take its place, two or more new names.")],
    *,
    ask_again: AskOption = 200,
    task: TaskOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Make one label several; its answers count no more, and reviews are asked about again."""
    _declare(task, LabelChange("split", (old,), tuple(new)), ask_again=ask_again, dry_run=dry_run)


@app.command()
def add_label(
    new: Annotated[str, typer.Argument(help="The label.")],
    *,
    task: TaskOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Add a label. Answers that might name it now: 'reviewloop task ask-again'."""
    _declare(task, LabelChange("add", (), (new,)), dry_run=dry_run)


@app.command("ask-again")
def ask_about_again(
    old: Annotated[list[str], typer.Argument(help="Labels of now, or some that were split.")],
    *,
    most: Annotated[
        int, typer.Option(min=1, max=_MOST_ASKED, help="At most so many, besides those of the audit.")
    ] = 200,
    task: TaskOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Ask again about reviews that people gave one of these labels; their answers count no more.

    All that the audit drew are asked about: without one label's answers it would be no random draw.
    """
    names = [_label(name) for name in old]
    with configured(task) as (settings, database):
        wanted = task or settings.classifier.task
        asked = LabelSetStore(database).ask_again(wanted, names, most, dry_run=dry_run)
    say(f"{asked:,} reviews {'would be' if dry_run else 'are'} asked about again.")


def _declare(task: str | None, change: LabelChange, *, ask_again: int = 0, dry_run: bool = False) -> None:
    given = LabelChange(change.kind, tuple(map(_label, change.sources)), tuple(map(_label, change.targets)))
    with configured(task) as (settings, database):
        wanted = task or settings.classifier.task
        effect = LabelSetStore(database).declare(
            wanted, given, getpass.getuser(), ask_again=ask_again, dry_run=dry_run
        )
        serving = _serving(database, wanted, effect)
    begins = "This is what would be done; nothing was changed. " if dry_run else ""
    say(f"{begins}{_what_happened(wanted, given, effect)}")
    if serving:
        say(serving, err=True)


def _what_happened(task: str, change: LabelChange, effect: ChangeEffect) -> str:
    mapped = "".join(f" {count:,} answers count as '{name}'." for name, count in effect.mapped.items())
    taken = f" {effect.taken_back:,} answers count no more." if effect.taken_back else ""
    asked = f" {effect.asked_again:,} reviews are asked about again." if effect.asked_again else ""
    labels_now = ", ".join(effect.label_set.labels)
    return f"{task}: {change.sentence}; the labels are {labels_now}.{mapped}{taken}{asked}"


def _serving(database: Database, task: str, effect: ChangeEffect) -> str:
    """What goes on to serve, in a sentence; empty where nothing serves."""
    adapters = AdapterStore(database)
    active = adapters.active(task)
    if active is None or set(adapters.find(active.version).labels) == set(effect.label_set.labels):
        return ""
    return (
        f"{active.version} serves on with its labels until an adapter with the new ones passes the gate; "
        "runs train for the new labels from now on."
    )


def _undeclared(task: str, names: tuple[str, ...]) -> dict[str, Any]:
    return {
        "task": task,
        "version": 1,
        "labels": ", ".join(names),
        "change": "",
        "declared_by": "",
        "declared_at": None,
    }


def _label(name: str) -> str:
    """A name without blanks around it.

    Raises:
        WrongUse: If nothing is left, or it is too long.
    """
    stripped = name.strip()
    if not stripped or len(stripped) > MAX_ID_CHARACTERS:
        raise WrongUse(f"A label has 1 to {MAX_ID_CHARACTERS} characters.")
    return stripped
