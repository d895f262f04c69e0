"""The audit log: who decided what, when, why, and what came of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Row, insert, select, update

from reviews.account import LONGEST_REASON, AuditEntry
from reviews.errors import ReviewLoopError, WrongUse
from storage.database import Database
from storage.schema.accounts import audit_log

_columns = audit_log.c


class AuditLog:
    """Entries are added and completed, never changed or removed.

    Raises:
        Unavailable: From every method, if the database does not answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def decision(
        self, actor: str, action: str, subject: str, *, reason: str = "", address: str = ""
    ) -> Iterator[None]:
        """Log a decision that is taken in the block: before it, and how it ended after it.

        So no decision is without its entry, however the program ends. An error of the block is noted and
        goes on.

        Args:
            actor: Who decides.
            action: A stable name, for example ``adapter.promote``.
            subject: What it is about.
            reason: In the person's words.
            address: The client's network address.

        Raises:
            WrongUse: If the reason is too long.
        """
        if len(reason) > LONGEST_REASON:
            raise WrongUse(f"A reason has at most {LONGEST_REASON:,} characters.")
        values = {"actor": actor, "action": action, "subject": subject, "reason": reason, "address": address}
        adding = insert(audit_log).values(**values).returning(_columns.id)
        number = self._database.fetch_value(adding)
        try:
            yield
        except ReviewLoopError as err:
            self._complete(number, "refused", str(err))
            raise
        self._complete(number, "done")

    def entries(self, before: int | None = None, limit: int = 100) -> list[AuditEntry]:
        """Entries, the newest first.

        Args:
            before: Only those with smaller numbers.
            limit: At most so many.
        """
        query = select(audit_log).order_by(_columns.id.desc()).limit(limit)
        if before is not None:
            query = query.where(_columns.id < before)
        return [_read(row) for row in self._database.fetch(query)]

    def _complete(self, number: int, outcome: str, message: str = "") -> None:
        values = {"outcome": outcome, "message": message[:LONGEST_REASON]}
        self._database.execute(update(audit_log).where(_columns.id == number).values(**values))


def _read(row: Row[Any]) -> AuditEntry:
    return AuditEntry(
        row.id,
        row.decided_at,
        row.actor,
        row.action,
        row.subject,
        row.reason,
        row.outcome,
        row.message,
        row.address,
    )
