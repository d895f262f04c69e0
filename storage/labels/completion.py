"""When an item of the annotation queue has enough answers, and when it has not enough any more.

An annotator's latest answer counts, "unsure" too. Items asked again count what came since they were queued.
As long as all that was ever said of a record is a tie, there are not enough answers: one more decides.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, text

from reviews.queue_item import ASKED_AGAIN, UNDO_SOURCE

ASKED_REASONS = ", ".join(f"'{reason}'" for reason in ASKED_AGAIN)
ANSWER_COUNTS = (
    f"latest.source <> '{UNDO_SOURCE}' "
    f"AND (q.reason NOT IN ({ASKED_REASONS}) OR latest.received_at >= q.queued_at)"
)

# How many annotators answered the item q.
ANSWERS = f"""(
SELECT count(*)
  FROM (SELECT DISTINCT ON (l.annotator) l.source, l.received_at
          FROM label l WHERE l.record = q.record AND l.task = q.task
         ORDER BY l.annotator, l.labelled_at DESC, l.id DESC) latest
 WHERE {ANSWER_COUNTS})"""  # noqa: S608  nothing but the constants above

TIED = """(
SELECT c.record FROM label_consensus c
 WHERE c.task = :task AND c.label IS NULL AND c.agreeing > 0
   AND (CAST(:records AS bigint[]) IS NULL OR c.record = ANY (CAST(:records AS bigint[]))))"""
_ASKED = """q.task = :task
       AND (CAST(:records AS bigint[]) IS NULL OR q.record = ANY (CAST(:records AS bigint[])))"""

# A transaction that answers an item at this moment has locked its row, and closes it: to wait for that
# would delay a batch of labels, and two batches could wait for each other.
_CLOSE_ANSWERED = text(f"""
WITH enough AS (
    SELECT q.record, q.task FROM label_task q
     WHERE {_ASKED} AND q.state = 'open'
       AND {ANSWERS} >= q.wanted_answers
       AND q.record NOT IN {TIED}
       FOR UPDATE OF q SKIP LOCKED)
UPDATE label_task q SET state = 'done', state_changed_at = clock_timestamp()
  FROM enough WHERE q.record = enough.record AND q.task = enough.task
RETURNING q.record
""")  # noqa: S608  nothing but the constants above

_REOPEN_TIED = text(f"""
WITH tied AS (
    SELECT q.record, q.task FROM label_task q
     WHERE {_ASKED} AND q.state = 'done' AND q.record IN {TIED}
       FOR UPDATE OF q SKIP LOCKED)
UPDATE label_task q SET state = 'open', state_changed_at = clock_timestamp()
  FROM tied WHERE q.record = tied.record AND q.task = tied.task
""")  # noqa: S608  the same


def close_answered(connection: Connection, task: str, records: Sequence[int] | None = None) -> int:
    """Close the open items that have enough answers, wherever those came from; how many.

    Done items whose answers have become a tie are opened again.

    Who has such an item at present may still answer it. Items that are being answered in this very moment
    are left to a later call.

    Args:
        connection: The transaction to do it in, such as the one that writes the labels.
        task: The items' task.
        records: Only items of these records; None for all.
    """
    given = {"task": task, "records": None if records is None else list(records)}
    connection.execute(_REOPEN_TIED, given)
    return len(connection.execute(_CLOSE_ANSWERED, given).all())
