"""The annotation queue as annotators use it: leases of items, and answers.

All times are by the database's clock. An annotator's latest answer counts, "unsure" too. A row of the source
``undo`` takes the answer before it back, so that the history keeps both. `queue_contents.py` beside it
fills the queue, and `completion.py` says when an item has enough answers.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from reviews.errors import ReviewLoopError, WrongUse
from reviews.fields import bounded_seconds
from reviews.queue_item import (
    TERMINAL_SOURCE,
    UNDO_SOURCE,
    Action,
    Guess,
    HeldItem,
    LeasedItem,
)
from storage.database import Database
from storage.labels.actions import note_action
from storage.labels.completion import ANSWER_COUNTS, close_answered
from storage.labels.queue_contents import IS_FREE
from storage.labels.vocabulary import label_now, meanings, read_label_sets

SKIPS_TO_CLOSE = 3
"""An item that so many different annotators passed on is shown to nobody else."""
MAX_HELD = 50
"""An annotator has at most so many items of a task at once."""


# Whether :annotator answered the item q.
_HAS_ANSWERED = f"""EXISTS (
SELECT FROM (SELECT l.source, l.received_at
               FROM label l WHERE l.record = q.record AND l.task = q.task AND l.annotator = :annotator
              ORDER BY l.labelled_at DESC, l.id DESC LIMIT 1) latest
 WHERE {ANSWER_COUNTS})"""  # noqa: S608  nothing but the constants above

_IS_OFFERED = f"""
    NOT EXISTS (SELECT FROM label_skip s
                 WHERE s.record = q.record AND s.task = q.task AND s.annotator = :annotator)
    AND NOT {_HAS_ANSWERED}
    AND EXISTS (SELECT FROM published_review r WHERE r.record = q.record)"""  # noqa: S608  nothing but the constant above
_TAKE = """
    holder = :annotator,
    lease_token = q.lease_token + 1,
    lease_expires_at = clock_timestamp() + make_interval(secs => :seconds)"""
_ITEM = "q.record = :record AND q.task = :task"


# Leases the most important free items that the annotator has neither answered nor skipped.
_LEASE = text(f"""
WITH chosen AS (
    SELECT q.record FROM label_task q
     WHERE q.task = :task AND q.state = 'open' AND {IS_FREE}
       AND (CAST(:among AS bigint[]) IS NULL OR q.record = ANY (CAST(:among AS bigint[])))
       AND {_IS_OFFERED}
     ORDER BY q.priority DESC, q.record
     LIMIT (SELECT greatest(0, least(:most, {MAX_HELD} - count(*))) FROM label_task h
             WHERE h.holder = :annotator AND h.task = :task AND h.lease_expires_at > clock_timestamp())
       FOR UPDATE OF q SKIP LOCKED)
UPDATE label_task q SET {_TAKE} FROM chosen WHERE q.record = chosen.record AND q.task = :task
RETURNING q.record
""")  # noqa: S608  nothing but the constants above

_RENEW = text(f"""
UPDATE label_task q SET lease_expires_at = clock_timestamp() + make_interval(secs => :seconds)
 WHERE {_ITEM} AND q.lease_token = :token AND q.holder = :annotator AND NOT {IS_FREE}
""")  # noqa: S608  nothing but the constants above
_TAKE_BACK = text(f"UPDATE label_task q SET {_TAKE} WHERE {_ITEM} AND {IS_FREE} RETURNING q.record")  # noqa: S608

# What an annotator sees of items, and what the model says of them.
_SHOW = text("""
SELECT q.record, q.task, q.lease_token, q.lease_expires_at, q.reason,
       r.review_id, r.text, r.product, r.source, r.published_at,
       (SELECT c.record FROM current_review c WHERE c.record = r.record) IS NULL,
       p.label, p.confidence, a.version
  FROM label_task q
  JOIN review r ON r.record = q.record
  LEFT JOIN prediction p ON p.record = q.record AND p.task = q.task
  LEFT JOIN adapter a ON a.id = p.adapter_id
 WHERE q.task = :task AND q.record = ANY(:records)
 ORDER BY q.priority DESC, q.record
""")

_IS_HELD_BY = text(f"SELECT FROM label_task q WHERE {_ITEM} AND q.holder = :annotator AND NOT {IS_FREE}")
# Locks an item: whether this lease still holds.
_LOCK = text(f"""
SELECT q.lease_token = :token AND NOT {IS_FREE} FROM label_task q WHERE {_ITEM} FOR UPDATE
""")  # noqa: S608  nothing but the constants above

# An answer is not earlier than what the annotator said before, also where a label from elsewhere has a time
# in the future: of one moment, the later row counts. It is received when the row is written: the transaction
# may have waited for the item's lock, and have begun before the item was queued again.
WRITE_ANSWER = text("""
INSERT INTO label (record, task, label, annotator, source, seconds, received_at, labelled_at)
VALUES (:record, :task, :label, :annotator, :source, :seconds, clock_timestamp(),
        greatest(clock_timestamp(), (
            SELECT max(labelled_at) FROM label
             WHERE record = :record AND task = :task AND annotator = :annotator)))
""")
# Takes back the latest answer of an annotator, or only the one of a moment.
_WITHDRAW_ANSWER = text(f"""
INSERT INTO label (record, task, label, annotator, source, received_at, labelled_at)
SELECT record, task, NULL, annotator, '{UNDO_SOURCE}', clock_timestamp(),
       greatest(clock_timestamp(), labelled_at)
  FROM (SELECT record, task, annotator, source, labelled_at FROM label
         WHERE record = :record AND task = :task AND annotator = :annotator
         ORDER BY labelled_at DESC, id DESC LIMIT 1) latest
 WHERE source <> '{UNDO_SOURCE}'
   AND (CAST(:stated_at AS timestamptz) IS NULL OR labelled_at = CAST(:stated_at AS timestamptz))
RETURNING labelled_at
""")  # noqa: S608  nothing but the constant above

_WRITE_SKIP = text("""
INSERT INTO label_skip (record, task, annotator) VALUES (:record, :task, :annotator) ON CONFLICT DO NOTHING
""")
_WITHDRAW_SKIP = text("""
DELETE FROM label_skip WHERE record = :record AND task = :task AND annotator = :annotator RETURNING record
""")

# Closes an item that enough annotators passed on.
_CLOSE_SKIPPED = text(f"""
UPDATE label_task q SET state = 'skipped', state_changed_at = clock_timestamp()
 WHERE {_ITEM} AND q.state = 'open'
   AND :skips <= (SELECT count(*) FROM label_skip s WHERE s.record = q.record AND s.task = q.task)
""")  # noqa: S608  nothing but the constants above
_REOPEN = text(f"""
UPDATE label_task q SET state = 'open', state_changed_at = clock_timestamp()
 WHERE {_ITEM} AND q.state <> 'open'
""")  # noqa: S608  nothing but the constants above

_GIVE_BACK = text(f"""
UPDATE label_task q SET holder = NULL, lease_expires_at = NULL WHERE {_ITEM} AND q.lease_token = :token
""")  # noqa: S608  nothing but the constants above


_LEFT_FOR = text(f"""
SELECT count(*) FROM (
    SELECT FROM label_task q WHERE q.task = :task AND q.state = 'open' AND {_IS_OFFERED}
     LIMIT :most) left_over
""")  # noqa: S608  nothing but the constants above


class ItemLeaseEnded(ReviewLoopError):
    """The item is not this annotator's any more: nothing was stored; store the answer as a late one."""


class AnnotationQueue:
    """Hands the items of the queue out, and takes the answers.

    Args:
        database: Where it is.
        source: How the answers come here; each label row keeps it.

    Raises:
        Unavailable: From every method, if the database does not answer.
        ActionKnown: From every method that takes an action, if it was done before: nothing was changed.
    """

    def __init__(self, database: Database, source: str = TERMINAL_SOURCE) -> None:
        self._database = database
        self._source = source

    def lease(self, task: str, annotator: str, seconds: float) -> LeasedItem | None:
        """The most important free item that the annotator has neither answered nor skipped.

        Nobody else gets it until the lease ends. None where there is no such item.
        """
        return next(iter(self.lease_several(task, annotator, seconds, 1)), None)

    def lease_several(
        self, task: str, annotator: str, seconds: float, most: int, among: Sequence[int] | None = None
    ) -> list[LeasedItem]:
        """The most important free items that the annotator has neither answered nor skipped, in order.

        Args:
            task: Of which task.
            annotator: Who has them then; of all that somebody has at once, at most 50.
            seconds: Nobody else gets them for so long.
            most: At most so many.
            among: Only items of these records; None for all.
        """
        given = {"task": task, "annotator": annotator, "seconds": seconds, "most": most, "among": among}
        with self._database.begin() as connection:
            return _show(connection, connection.execute(_LEASE, given).scalars().all(), task)

    def renew(self, item: HeldItem, annotator: str, seconds: float) -> bool:
        """Keep an item for so long from now on; False where the lease has ended or another replaced it."""
        given = {**_key(item), "token": item.token, "annotator": annotator, "seconds": seconds}
        return self._database.execute(_RENEW, given) == 1

    def held(self, task: str, record: int, annotator: str) -> LeasedItem | None:
        """An item that the annotator has at present; None where it is not so."""
        given = {"task": task, "record": record, "annotator": annotator}
        with self._database.begin() as connection:
            is_held = connection.execute(_IS_HELD_BY, given).one_or_none() is not None
            return _show(connection, [record], task)[0] if is_held else None

    def answer(
        self,
        item: HeldItem,
        label: str | None,
        annotator: str,
        *,
        is_late: bool = False,
        action: Action | None = None,
        seconds: float | None = None,
    ) -> bool:
        """Store an answer about the record that was shown, and close the item when it has enough of them.

        Args:
            item: As it was leased.
            label: One of the task's labels; None for "unsure".
            annotator: Who says so.
            is_late: Store it although the lease has ended: as one more opinion, which takes nothing from
                the present holder.
            action: What makes a repeated request one answer.
            seconds: How long it took; unset, what the action says. At most ten minutes are kept.

        Returns:
            Whether this closed the item.

        Raises:
            ItemLeaseEnded: If the lease has ended and the answer is not a late one; nothing was stored.
            LabelRetired: If the label was split since it was shown; nothing was stored.
        """
        given = {**_key(item), "token": item.token, "annotator": annotator, "label": label}
        with self._database.begin() as connection:
            note_action(connection, action, "answer", given)
            # The row's lock makes answers to one item wait for each other, so that the last one counts all.
            is_held = bool(connection.execute(_LOCK, given).scalar())
            if not is_held and not is_late:
                raise ItemLeaseEnded(
                    f"The review of record {item.record} took longer than its lease: the answer was not "
                    "stored, as others may have it now."
                )
            said = label_now(connection, item.task, label)
            took = bounded_seconds(action.seconds if seconds is None and action is not None else seconds)
            stored = {**given, "label": said, "source": self._source, "seconds": took}
            connection.execute(WRITE_ANSWER, stored)
            connection.execute(_GIVE_BACK, given)
            return close_answered(connection, item.task, [item.record]) == 1

    def skip(self, item: HeldItem, annotator: str, action: Action | None = None) -> None:
        """Never show the item to this annotator again; after three of them, to nobody."""
        given = {**_key(item), "token": item.token, "annotator": annotator}
        with self._database.begin() as connection:
            note_action(connection, action, "skip", given)
            write_skip(connection, item, annotator)
            connection.execute(_GIVE_BACK, given)

    def undo(
        self, item: HeldItem, annotator: str, seconds: float, action: Action | None = None
    ) -> LeasedItem | None:
        """Take back the annotator's skip of an item, else the latest answer, and lease the item anew.

        The answer stays in the history, followed by a row that takes it back.

        Returns:
            The item; None where somebody else has it at present: then it comes again later.

        Raises:
            WrongUse: If there is nothing to take back.
        """
        given = {**_key(item), "token": item.token, "annotator": annotator, "seconds": seconds}
        with self._database.begin() as connection:
            note_action(connection, action, "undo", given)
            connection.execute(_LOCK, given)
            if not (
                connection.execute(_WITHDRAW_SKIP, given).all()
                or withdraw_answer(connection, item, annotator) is not None
            ):
                raise WrongUse(f"'{annotator}' has no answer to the record {item.record} to take back.")
            connection.execute(_REOPEN, given)
            is_taken = connection.execute(_TAKE_BACK, given).scalar() is not None
            return next(iter(_show(connection, [item.record], item.task)), None) if is_taken else None

    def give_back(self, item: HeldItem) -> None:
        """Let others have the item at once; nothing where a later lease replaced this one."""
        self._database.execute(_GIVE_BACK, {**_key(item), "token": item.token})

    def left_for(self, task: str, annotator: str, most: int | None = None) -> int:
        """How many open items the annotator has neither answered nor skipped, also those that others hold.

        Args:
            task: Of which task.
            annotator: Whose.
            most: Count no further than this; None: count all.
        """
        given = {"task": task, "annotator": annotator, "most": most}
        return int(self._database.fetch_value(_LEFT_FOR, given))


def write_skip(connection: Connection, item: HeldItem, annotator: str) -> None:
    """Never show an item to this annotator again; after three of them, to nobody."""
    given = {**_key(item), "token": item.token, "annotator": annotator, "skips": SKIPS_TO_CLOSE}
    connection.execute(_LOCK, given)
    connection.execute(_WRITE_SKIP, given)
    connection.execute(_CLOSE_SKIPPED, given)


def withdraw_answer(
    connection: Connection, item: HeldItem, annotator: str, stated_at: datetime | None = None
) -> datetime | None:
    """Take back the latest answer of an annotator; the answer stays in the history, and a row follows it.

    Args:
        connection: The transaction.
        item: What was answered.
        annotator: Whose answer.
        stated_at: Only if the latest answer is the one of this moment; None: whatever it is.

    Returns:
        The moment of that row; None where nothing was taken back.
    """
    given = {**_key(item), "annotator": annotator, "stated_at": stated_at}
    moment: datetime | None = connection.execute(_WITHDRAW_ANSWER, given).scalar()
    return moment


def reopen(connection: Connection, item: HeldItem) -> None:
    """Ask about an item again, unless it has enough answers all the same."""
    connection.execute(_REOPEN, _key(item))
    close_answered(connection, item.task, [item.record])


def _key(item: HeldItem) -> dict[str, Any]:
    return {"record": item.record, "task": item.task}


def _show(connection: Connection, records: Sequence[int], task: str) -> list[LeasedItem]:
    rows = connection.execute(_SHOW, {"records": list(records), "task": task}).all()
    label_set = read_label_sets(connection, task).get(task) if rows else None
    became = {} if label_set is None else meanings(label_set)
    return [_leased(row, became) for row in rows]


def _leased(row: Sequence[Any], became: Mapping[str, str | None]) -> LeasedItem:
    """An item; an adapter of before the labels changed is quoted in those of now, where they say as much."""
    *shown, label, confidence, version = row
    guess = None if label is None else Guess(became.get(label) or label, confidence, version)
    return LeasedItem._make([*shown, guess])
