"""``reviewloop adapters watch``: one look at whether what serves is worse than what it replaced."""

from datetime import datetime
from typing import Annotated

import typer

from reviewloop.cli.names import require_task
from reviewloop.settings import Settings, load_settings
from reviewloop.visible import say
from reviewloop.wiring import load_registered, open_database
from reviews.label import AuditRow
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.learning.audits import audit_answers
from trainer.gate.rollback import Watched, roll_back_if_worse, should_roll_back

_SAID = {
    "rolled_back": "{active} was rolled back to {previous}.",
    "stays": "{active} stays.",
    "nothing_before": "Nothing served before {active}: there is nothing to compare it with.",
    "not_comparable": "{active} and {previous} have other labels: they cannot be compared.",
    "overtaken": "Another adapter took over meanwhile: nothing was changed.",
}


def watch(
    task: Annotated[str | None, typer.Option(help="The task; unset, the configured one.")] = None,
) -> None:
    """Compare what serves with what it replaced, on the labelled audit slice, and roll back if it is worse.

    One look; a schedule may look as often as it likes.
    """
    settings = load_settings()
    with open_database(settings) as database:
        require_task(settings, database, task)
        found = look(settings, database, task or settings.classifier.task)
    said = _SAID[found.outcome].format(active=found.active or "No adapter", previous=found.previous)
    say(said if found.check is None else f"{said} {found.check.detail}")


def look(settings: Settings, database: Database, task: str) -> Watched:
    """One look at a task, with the gate's rule; rolls back if it says so.

    Raises:
        AdapterError: If an adapter whose answers are missing cannot be used.
        Unavailable: If the database does not answer.
    """
    store = AdapterStore(database)
    shares = settings.trainer.nightly.shares

    def answers(task: str, active: str, previous: str, since: datetime) -> list[AuditRow]:
        return audit_answers(database, task, active=active, previous=previous, since=since, shares=shares)

    return roll_back_if_worse(
        task,
        store,
        answers,
        load=lambda version: load_registered(settings, store, version),
        judge=lambda truth, active, previous: should_roll_back(
            truth, active, previous, settings.trainer.gate
        ),
    )
