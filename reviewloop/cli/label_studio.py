"""``reviewloop label-studio``: connects a project, sends reviews there, and fetches annotations."""

import getpass
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from console.annotations import AnnotationReader
from reviewloop.cli.arguments import configured
from reviewloop.files.label_studio import to_task
from reviewloop.integrations.label_studio import LabelStudio, pull
from reviewloop.terminal import say
from reviews.account import COMMAND_LINE, Role
from reviews.errors import ReviewLoopError
from reviews.label_studio import record_of
from storage.accounts.audit_log import AuditLog
from storage.accounts.sessions import TokenStore
from storage.accounts.users import UserStore
from storage.labels.annotations import AnnotationStore
from storage.labels.store import ItemFilter, find_items

app = typer.Typer(no_args_is_help=True, help="Label Studio: predictions and reviews there, annotations back.")

_MOST_SHOWN = 20
ProjectArgument = Annotated[int, typer.Argument(min=1, help="The number of the project in Label Studio.")]


@app.command()
def connect(
    project: ProjectArgument,
    *,
    console: Annotated[str, typer.Option(help="Where Label Studio reaches the console.")],
    user: Annotated[str, typer.Option(help="The user of the console who answers for the token.")],
    days: Annotated[int, typer.Option(min=1, max=366, help="The token ends after so many days.")] = 366,
) -> None:
    """Let Label Studio ask for predictions and tell of annotations; called again: with a new token."""
    with configured() as (settings, database):
        studio = LabelStudio(settings.label_studio)
        studio.project(project)  # before a token is made
        name = token_name(project, datetime.now(UTC))
        owner = UserStore(database).get(user)
        with AuditLog(database).decision(f"{COMMAND_LINE}, {getpass.getuser()}", "token.add", name):
            secret = TokenStore(database).add(name, owner, Role.ANNOTATOR, timedelta(days=days))
        try:
            studio.connect(project, console, secret)
        except ReviewLoopError:
            TokenStore(database).revoke(name)
            raise
    say(f"Project {project} is connected to {console} by the token '{name}', for {days} days.")


def token_name(project: int, moment: datetime) -> str:
    """The name of a token; of two that are made in one second each has its own, as names are used once."""
    return f"label-studio {project} {moment:%Y-%m-%d %H:%M:%S.%f}"


@app.command()
def push(
    project: ProjectArgument,
    *,
    task: Annotated[str | None, typer.Option(help="The task to be decided; unset, the first.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 1_000,
) -> None:
    """Add the reviews that wait in the annotation queue, the most important first; each once.

    They are sent without what the model says.
    """
    with configured(task) as (settings, database):
        studio = LabelStudio(settings.label_studio)
        there = {record_of(one.task.data) for one in studio.tasks(project)}
        wanted = ItemFilter(task=task or settings.consumer.tasks[0], queued=True, limit=limit)
        items = [item for item in find_items(database, wanted) if item["record"] not in there]
        added = studio.add_tasks(project, [to_task(item, "", blind=True) for item in items])
    say(f"Added {added:,} reviews to project {project}; {len(there):,} records were there already.")


@app.command("pull")
def pull_annotations(project: ProjectArgument) -> None:
    """Take in all annotations of a project, such as those made while the console was away."""
    with configured() as (settings, database):
        studio = LabelStudio(settings.label_studio)
        found = studio.project(project)
        reader = AnnotationReader(
            database, settings.consumer.tasks, found, studio.annotator, settings.label_studio.models
        )
        done = pull(studio, project, reader, AnnotationStore(database), found.name)
    say(
        f"Took in {done.stored:,} annotations and took back {done.deleted:,} that were deleted; "
        f"{done.known:,} were known."
    )
    for line in done.ignored[:_MOST_SHOWN]:
        say(f"Not taken: {line}", err=True)
    if done.ignored:
        raise ReviewLoopError(f"{len(done.ignored):,} annotations are no answers.")
