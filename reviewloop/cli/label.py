"""``reviewloop label``: labels of reviews; without a subcommand, labelling at the terminal."""

import getpass
import threading
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from console.labelling import AnnotatorQueue, labels_of, make_choices
from reviewloop.cli.arguments import refuse_options
from reviewloop.cli.consume import say_labels
from reviewloop.cli.label_files import export, import_labels, publish_labels, say_new_tasks
from reviewloop.cli.label_quality import agreement, progress, queue_app, suspects
from reviewloop.cli.running import on_signals
from reviewloop.labelling.session import Done, Session, Sitting
from reviewloop.labelling.terminal import Screen, open_keys
from reviewloop.operations.logs import configure_logging
from reviewloop.settings import load_settings
from reviewloop.terminal import say
from reviewloop.wiring.label_reader import open_label_reader
from reviewloop.wiring.registry import open_database
from reviews.errors import InvalidMessage, WrongUse
from reviews.fields import looks_like_model
from reviews.label import UNSURE, resolve_label
from storage.labels.annotation_queue import AnnotationQueue
from storage.labels.guidelines import GuidelineStore
from storage.labels.store import LabelStore

app = typer.Typer(help="What people say of reviews. Without a command: label at the terminal, key by key.")
app.add_typer(queue_app, name="queue")
app.command("import")(import_labels)
app.command("export")(export)
app.command("publish")(publish_labels)
app.command()(agreement)
app.command()(suspects)
app.command()(progress)

_MAX_NAME_CHARACTERS = 256


class Reveal(StrEnum):
    """When the model's guess is shown."""

    never = "never"
    after = "after"


@app.callback(invoke_without_command=True)
def label(
    context: typer.Context,
    *,
    task: Annotated[str | None, typer.Option(help="The task; unset, the classifier's.")] = None,
    annotator: Annotated[str | None, typer.Option(help="Your name; unset, the login name.")] = None,
    limit: Annotated[
        int, typer.Option(min=0, help="Stop after so many answers; 0: when nothing is left.")
    ] = 0,
    lease_seconds: Annotated[
        float,
        typer.Option(min=1, max=86_400, help="Seconds for which nobody else gets the review you look at."),
    ] = 600,
    reveal_guess: Annotated[
        Reveal, typer.Option(help="Show the model's answer after yours, or never.")
    ] = Reveal.after,
) -> None:
    """Label reviews at the terminal, one keypress an answer: the most useful first."""
    if context.invoked_subcommand is not None:
        refuse_options(context, "labelling at the terminal")
        return
    settings = load_settings()
    wanted, name = task or settings.classifier.task, _name(annotator)
    with open_database(settings) as database:
        choices = make_choices(labels_of(database, wanted))
        guideline = GuidelineStore(database).current(wanted)
        sitting = Sitting(limit or None, reveal_guess is Reveal.after, guideline.text if guideline else None)
        screen = Screen(choices, Console(highlight=False, emoji=False, markup=False))
        with open_keys() as keys:
            queue = AnnotatorQueue(AnnotationQueue(database), wanted, name, lease_seconds)
            done = Session(queue, keys, screen, choices, sitting).run()
    say(_summary(done), err=True)


@app.command("set")
def set_label(
    review_id: Annotated[str, typer.Argument(help="The review, by the publisher's id.")],
    label: Annotated[str, typer.Argument(help="One of the task's labels, by name or number, or unsure.")],
    *,
    task: Annotated[str | None, typer.Option(help="The task; unset, the classifier's.")] = None,
    annotator: Annotated[str | None, typer.Option(help="Your name; unset, the login name.")] = None,
) -> None:
    """Give one answer, about the current version of a review; it follows whatever you said before."""
    settings, name = load_settings(), _name(annotator)
    decided = task or settings.classifier.task
    with open_database(settings) as database:
        store = LabelStore(database)
        vocabularies = store.vocabularies()
        try:
            chosen = resolve_label(label, vocabularies.get(decided))
        except InvalidMessage as err:
            raise WrongUse(str(err)) from err
        if not store.answer(review_id, decided, chosen, name):
            raise WrongUse(
                f"No review '{review_id}' is stored: give its id as it was published ('reviewloop query' "
                "shows ids)."
            )
    say_new_tasks([decided], vocabularies)
    say(f"'{review_id}' is {chosen or UNSURE} for the task '{decided}', says {name}.")


def _name(given: str | None) -> str:
    name = (getpass.getuser() if given is None else given).strip()
    if not name or len(name) > _MAX_NAME_CHARACTERS:
        raise WrongUse(f"A name has 1 to {_MAX_NAME_CHARACTERS} characters: give --annotator NAME.")
    if looks_like_model(name):
        raise WrongUse(
            f"'{name}' begins as the name of a model does: give --annotator NAME. Answers of models come in "
            "by 'reviewloop label import', by the labels topic or by the console's interface."
        )
    return name


def _summary(done: list[Done]) -> str:
    answers = [item for item in done if not item.is_skip]
    unsure = sum(item.label is None for item in answers)
    return f"{len(answers):,} answered, {unsure:,} of them unsure; {len(done) - len(answers):,} skipped."


@app.command()
def consume(
    *,
    until_idle: Annotated[
        float | None,
        typer.Option(
            min=0.1, help="End when the whole topic is stored and nothing has come for so many seconds."
        ),
    ] = None,
    topic: Annotated[str | None, typer.Option(help="Instead of the configured labels topic.")] = None,
) -> None:
    """Take in published labels, without scoring anything; 'reviewloop consume' does both."""
    settings = load_settings({"kafka": {"labels_topic": topic}})
    configure_logging()
    stopping = threading.Event()
    with on_signals(stopping), open_label_reader(settings, stopping, until_idle, is_alone=True) as reader:
        reader.wait()
    say(say_labels(reader.totals))
