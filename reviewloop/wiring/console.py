"""Wiring of the console."""

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from console.parts import ConsoleParts
from console.scorer import ConsoleScorer, active_version
from reviewloop.integrations.label_studio import LabelStudio
from reviewloop.settings import Settings, origins
from reviewloop.wiring.registry import load_registered, open_database
from reviewloop.wiring.sources import open_mappings, open_trier
from reviewloop.wiring.topics import review_topics
from reviews.account import Role
from storage.accounts.sessions import LinkPurpose, SessionStore
from storage.accounts.users import UserStore
from storage.adapters.registry import AdapterStore
from storage.database import Database
from trainer.nightly.snapshot import label_needs

_LINK_LIFETIME = timedelta(hours=1)


@contextmanager
def open_console(settings: Settings) -> Iterator[ConsoleParts]:
    """The parts of the console; no statement of a page takes longer than the setting allows.

    Raises:
        WrongUse: If no database is configured and no local stack runs.
    """
    seconds = min(filter(None, (settings.console.query_seconds, settings.database.statement_timeout_seconds)))
    limited = settings.database.model_copy(update={"statement_timeout_seconds": seconds})
    with open_database(settings.model_copy(update={"database": limited})) as database:
        yield ConsoleParts(
            database=database,
            settings=settings.console,
            kafka=settings.kafka,
            topics=review_topics(settings),
            sources=settings.sources,
            mappings=open_mappings(settings),
            trier=open_trier(settings),
            classifier=settings.classifier,
            drift=settings.drift,
            nightly_cron=settings.trainer.nightly.cron,
            tasks=settings.consumer.tasks,
            label_needs=label_needs(settings.trainer.nightly, settings.trainer.gate),
            shares=settings.trainer.nightly.shares,
            max_message_bytes=settings.consumer.max_message_bytes,
            scorer=_scorer(settings, database),
            label_studio=settings.label_studio,
            annotator_of=LabelStudio(settings.label_studio).annotator if settings.label_studio.url else None,
        )


def _scorer(settings: Settings, database: Database) -> ConsoleScorer | None:
    if not settings.console.try_it:
        return None
    store = AdapterStore(database)
    return ConsoleScorer(active_version(store), lambda version: load_registered(settings, store, version))


def local_link(database: Database) -> str | None:
    """The path of a one-time link for the user of this machine, as an owner; None away from a local stack.

    The user may read the local stack's files, and so may do everything with its database anyway.
    """
    if origins().get(("database", "url")) != "local stack":
        return None
    users, name = UserStore(database), getpass.getuser()
    found = users.find(name)
    user = found[0] if found else users.add(name, Role.OWNER, "the local stack")
    if user.is_disabled:
        return None
    return f"/link/{SessionStore(database).make_link(user, LinkPurpose.LOG_IN, _LINK_LIFETIME)}"
