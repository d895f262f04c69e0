"""When an item of the annotation queue has enough answers, and when it has not enough any more.

A person's latest answer counts, "unsure" too. Items asked again count what came since they were queued.
As long as all that was ever said of a record is a tie, there are not enough answers: one more decides.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, text

from reviews.queue_item import ASKED_AGAIN, UNDO_SOURCE
from storage.schema.labels import BY_PEOPLE

ASKED_REASONS = ", ".join(f"'{reason}'" for reason in ASKED_AGAIN)
ANSWER_COUNTS = (
    f"latest.source <> '{UNDO_SOURCE}' "
    f"AND (q.reason NOT IN ({ASKED_REASONS}) OR latest.received_at >= q.queued_at)"
)

# How many people answered the item q: what models say completes none.
ANSWERS = f"""(
SELECT count(*)
  FROM (SELECT DISTINCT ON (l.annotator) l.source, l.received_at
          FROM label l WHERE l.record = q.record AND l.task = q.task AND {BY_PEOPLE}
         ORDER BY l.annotator, l.labelled_at DESC, l.id DESC) latest
 WHERE {ANSWER_COUNTS})"""  # noqa: S608  nothing but the constants above

# A scalar, which PostgreSQL computes for each item: it would rather judge all labels for a join.
IS_TIED = """coalesce((
SELECT c.label IS NULL AND c.agreeing > 0 FROM label_consensus c
 WHERE c.record = q.record AND c.task = q.task), false)"""
NEWEST_ANSWERS = 10_000
"""Without records, done items are opened again that are among those of so many of the newest answers."""

# A transaction that answers an item at this moment has locked its row, and closes it: to wait for that
# would delay a batch of labels, and two batches could wait for each other.
_CLOSE_ANSWERED = """
WITH enough AS (
    SELECT q.record, q.task FROM label_task q
     WHERE q.task = :task AND {items} AND q.state = 'open'
       AND {answers} >= q.wanted_answers
       AND NOT {tied}
       FOR UPDATE OF q SKIP LOCKED)
UPDATE label_task q SET state = 'done', state_changed_at = clock_timestamp()
  FROM enough WHERE q.record = enough.record AND q.task = enough.task
RETURNING q.record
"""
_REOPEN_TIED = """
WITH tied AS (
    SELECT q.record, q.task FROM label_task q
     WHERE q.task = :task AND {items} AND q.state = 'done' AND {tied}
       FOR UPDATE OF q SKIP LOCKED)
UPDATE label_task q SET state = 'open', state_changed_at = clock_timestamp()
  FROM tied WHERE q.record = tied.record AND q.task = tied.task
"""
_GIVEN = "q.record = ANY (CAST(:records AS bigint[]))"
_ANSWERED_LAST = f"""q.record = ANY (ARRAY(
SELECT record FROM label WHERE task = :task AND {BY_PEOPLE}
 ORDER BY received_at DESC LIMIT {NEWEST_ANSWERS}))"""  # noqa: S608  a number
_CLOSE_GIVEN, _CLOSE_OPEN = (
    text(_CLOSE_ANSWERED.format(items=items, answers=ANSWERS, tied=IS_TIED)) for items in (_GIVEN, "true")
)
_REOPEN_GIVEN, _REOPEN_LAST = (
    text(_REOPEN_TIED.format(items=items, tied=IS_TIED)) for items in (_GIVEN, _ANSWERED_LAST)
)


def close_answered(connection: Connection, task: str, records: Sequence[int] | None = None) -> int:
    """Close the open items that have enough answers, wherever those came from; how many.

    Done items whose answers have become a tie are opened again.

    Who has such an item at present may still answer it. Items that are being answered in this very moment
    are left to a later call.

    Args:
        connection: The transaction to do it in, such as the one that writes the labels.
        task: The items' task.
        records: Only items of these records; None for all open items, and the done ones that were answered
            last.
    """
    if records is None:
        connection.execute(_REOPEN_LAST, {"task": task})
        return len(connection.execute(_CLOSE_OPEN, {"task": task}).all())
    given = {"task": task, "records": list(records)}
    connection.execute(_REOPEN_GIVEN, given)
    return len(connection.execute(_CLOSE_GIVEN, given).all())
