"""What annotators did in the console, action by action: a request that is sent again changes nothing.

An answer's row cannot tell this by itself: the same answer may be given twice, with an undo between.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

from reviews.errors import ReviewLoopError
from reviews.queue_item import Action
from storage.database import Database

Kind = Literal["answer", "skip", "undo"]

# Both keys may be there already: the action's own, and that of the action which it takes back.
_NOTE = text("""
INSERT INTO label_action (id, kind, record, task, annotator, label, seconds, undoes)
VALUES (:id, :kind, :record, :task, :annotator, :label, :seconds, :undoes)
ON CONFLICT DO NOTHING RETURNING id
""")
# What an annotator did lately and did not take back, the latest last.
_DONE = text("""
SELECT id, kind, record, label, acted_at FROM (
    SELECT a.id, a.kind, a.record, a.label, a.acted_at FROM label_action a
     WHERE a.annotator = :annotator AND a.task = :task AND a.kind <> 'undo'
       AND a.acted_at > clock_timestamp() - make_interval(secs => :seconds)
       AND NOT EXISTS (SELECT FROM label_action u WHERE u.annotator = a.annotator AND u.undoes = a.id)
     ORDER BY a.acted_at DESC LIMIT :most) latest
 ORDER BY acted_at
""")


class ActionKnown(ReviewLoopError):
    """The action was done before, or its subject was taken back before: nothing was changed now."""


class DoneAction(NamedTuple):
    """An answer or a skip that was not taken back.

    Attributes:
        id: Made by the sender.
        kind: ``answer`` or ``skip``.
        record: The record that it is about.
        label: The label; None where the annotator was unsure, or skipped.
        acted_at: When it was stored (UTC).
    """

    id: UUID
    kind: str
    record: int
    label: str | None
    acted_at: datetime


def note_action(connection: Connection, action: Action | None, kind: Kind, given: Mapping[str, Any]) -> None:
    """Keep an action in the transaction that does it; nothing where it has no id.

    Of several transactions with one id, one goes on; the others wait for it, and then find it known.

    Args:
        connection: The transaction.
        action: Its id, and what it takes back.
        kind: What is done.
        given: Record, task, annotator and, of an answer, label.

    Raises:
        ActionKnown: If it was done before.
    """
    if action is None:
        return
    row = {"label": None, **given, **action._asdict(), "kind": kind}
    if connection.execute(_NOTE, row).one_or_none() is None:
        raise ActionKnown(f"The action {action.id} was done before: nothing was stored again.")


def done_actions(
    database: Database, task: str, annotator: str, *, seconds: float, most: int
) -> list[DoneAction]:
    """The answers and skips of an annotator since so long, in order, without what was taken back.

    Args:
        database: Where they are.
        task: Of which task.
        annotator: Whose.
        seconds: How far back.
        most: At most so many, the latest.
    """
    given = {"task": task, "annotator": annotator, "seconds": seconds, "most": most}
    return [DoneAction(*row) for row in database.fetch(_DONE, given)]
