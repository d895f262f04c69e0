"""``reviewloop adapters zero-shot``: an adapter from descriptions of labels, before anybody has labelled."""

import getpass
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from reviewloop.cli.arguments import configured
from reviewloop.files.reviews import Columns, open_reviews
from reviewloop.operations.logs import configure_logging
from reviewloop.terminal import say
from reviewloop.wiring.zero_shot import activate_zero_shot, make_zero_shot
from storage.adapters.registry import AdapterStore
from trainer.fitting.zero_shot import MOST_SAMPLED, ReferenceTexts, standardised_on


def zero_shot(
    *,
    task: Annotated[str | None, typer.Option(help="The task; unset, the configured one.")] = None,
    texts: Annotated[
        Path | None,
        typer.Option(
            help="Reviews of the stream in a file, to standardise on; unset, stored or published ones."
        ),
    ] = None,
    activate: Annotated[
        bool,
        typer.Option("--activate", help="Activate it, where no adapter is active or another zero-shot one."),
    ] = False,
    reason: Annotated[str, typer.Option(help="Recorded with the activation.")] = "no review is labelled yet",
    unchecked_base: Annotated[
        bool,
        typer.Option(
            "--unchecked-base", help="Do not ask whether the base knows what English sentences mean."
        ),
    ] = False,
) -> None:
    """Make an adapter from the texts about labels in the section tasks: it needs no labelled review.

    Labels of sentiment need no texts: there are bundled ones. Similarities to the labels are standardised on
    a thousand reviews; the schedule does that again once so many are stored. It never takes over from an
    adapter that was fitted to labelled reviews.
    """
    configure_logging(quiet=True)
    with configured(task) as (settings, database):
        name, store = task or settings.classifier.task, AdapterStore(database)
        current = store.active(name)
        sample = None if texts is None else _read(texts)
        adapter = make_zero_shot(settings, database, name, sample, check_base=not unchecked_base)
        made = store.manifest(adapter.version)
        on = f"{standardised_on(made):,} reviews" if standardised_on(made) else "no review yet"
        source = made["training"]["zero_shot"]["source"]
        if activate:
            activate_zero_shot(store, adapter, current, getpass.getuser(), reason)
        state = "active" if activate else "registered"
        say(f"{adapter.version} is {state}; standardised on {on} ({source})", err=True)
    say(adapter.version)


def _read(file: Path) -> ReferenceTexts:
    """The texts of the first reviews of a file; rows that are no reviews are left out."""
    with open_reviews(file, Columns()) as found:
        reviews = (row.message for row in found.rows)
        read = list(islice((review.text for review in reviews if review is not None), MOST_SAMPLED))
    return ReferenceTexts(read, f"the first reviews of {file.name}")
