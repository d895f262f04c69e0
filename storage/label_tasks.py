"""The queue of items worth labelling: what goes in, who has what for how long, and what becomes of it."""

import struct
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from reviews.errors import ReviewLoopError, WrongUse
from reviews.label_task import AUDIT, Guess, LeasedItem, NewTask, QueueCount, QueuedItem
from storage import label_task_statements as sql
from storage.database import Database
from storage.label_answers import settle_answered

SKIPS_TO_CLOSE = 3
"""An item that so many different annotators passed on is shown to nobody else."""
MAX_WANTED_ANSWERS = 100

_SECONDS_A_DAY = 86_400


class ItemLeaseEnded(ReviewLoopError):
    """The item is not this annotator's any more: nothing was stored; store the answer as a late one."""


class LabelTaskStore:
    """Fills the queue, hands its items out, and takes the answers.

    Raises:
        Unavailable: From every method, if the database does not answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, items: Sequence[NewTask], run_id: int | None = None) -> int:
        """Queue items.

        An open item keeps the greater priority, with its reason, and the greater number of wanted answers;
        what the audit drew keeps its own priority. A done or skipped one is opened again only because of an
        edit or for a second look, an expired one for any reason.

        Args:
            items: In any order; of several for one record and task the audit's counts, else the first of the
                greatest priority.
            run_id: The training run that chose them.

        Returns:
            How many are new, open again or further up.

        Raises:
            WrongUse: If a priority is no finite number, or the wanted answers are not 1 to 100.
        """
        with self._database.begin() as connection:
            return add_items(connection, items, run_id)

    def lease(self, task: str, annotator: str, seconds: float) -> LeasedItem | None:
        """The most important free item that the annotator has neither answered nor skipped.

        Nobody else gets it until the lease ends. None where there is no such item.
        """
        given = {"task": task, "annotator": annotator, "seconds": seconds}
        with self._database.begin() as connection:
            record = connection.execute(sql.LEASE, given).scalar()
            return None if record is None else _show(connection, record, task)

    def answer(self, item: LeasedItem, label: str | None, annotator: str, *, is_late: bool = False) -> bool:
        """Store an answer about the record that was shown, and close the item when it has enough of them.

        Args:
            item: As it was leased.
            label: One of the task's labels; None for "unsure".
            annotator: Who says so.
            is_late: Store it although the lease has ended: as one more opinion, which takes nothing from
                whoever has the item now.

        Returns:
            Whether this closed the item.

        Raises:
            ItemLeaseEnded: If the lease has ended and the answer is not a late one; nothing was stored.
        """
        given = {**_key(item), "token": item.token, "annotator": annotator, "label": label}
        with self._database.begin() as connection:
            # The row's lock makes answers to one item wait for each other, so that the last one counts all.
            is_held = bool(connection.execute(sql.LOCK, given).scalar())
            if not is_held and not is_late:
                raise ItemLeaseEnded(
                    f"The review '{item.review_id}' took longer than its lease, which ended at "
                    f"{item.expires_at:%H:%M:%S} UTC: the answer was not stored, as others may have it now."
                )
            connection.execute(sql.WRITE_ANSWER, given)
            connection.execute(sql.GIVE_BACK, given)
            return settle_answered(connection, item.task, [item.record]) == 1

    def skip(self, item: LeasedItem, annotator: str) -> None:
        """Never show the item to this annotator again; after three of them, to nobody."""
        given = {**_key(item), "token": item.token, "annotator": annotator, "skips": SKIPS_TO_CLOSE}
        with self._database.begin() as connection:
            connection.execute(sql.LOCK, given)
            connection.execute(sql.WRITE_SKIP, given)
            connection.execute(sql.GIVE_BACK, given)
            connection.execute(sql.CLOSE_SKIPPED, given)

    def undo(self, item: LeasedItem, annotator: str, seconds: float) -> LeasedItem | None:
        """Take back the annotator's skip of an item, else the latest answer, and lease the item anew.

        The answer stays in the history, followed by a row that takes it back.

        Returns:
            The item; None where somebody else has it at present: then it comes again later.

        Raises:
            WrongUse: If there is nothing to take back.
        """
        given = {**_key(item), "token": item.token, "annotator": annotator, "seconds": seconds}
        with self._database.begin() as connection:
            connection.execute(sql.LOCK, given)
            if not (
                connection.execute(sql.WITHDRAW_SKIP, given).all()
                or connection.execute(sql.WITHDRAW_ANSWER, given).all()
            ):
                raise WrongUse(f"'{annotator}' has no answer to the review '{item.review_id}' to take back.")
            connection.execute(sql.REOPEN, given)
            is_taken = connection.execute(sql.TAKE_BACK, given).scalar() is not None
            return _show(connection, item.record, item.task) if is_taken else None

    def give_back(self, item: LeasedItem) -> None:
        """Let others have the item at once; nothing where this lease is not the one in force."""
        with self._database.begin() as connection:
            connection.execute(sql.GIVE_BACK, {**_key(item), "token": item.token})

    def release(self, holder: str) -> int:
        """Let others have everything that somebody holds, such as an annotator who has left; how many."""
        with self._database.begin() as connection:
            return len(connection.execute(sql.RELEASE, {"holder": holder}).all())

    def expire(self, task: str, older_than_days: float) -> int:
        """Close a task's items that have been open for longer than this and that nobody has; how many."""
        with self._database.begin() as connection:
            given = {"task": task, "seconds": older_than_days * _SECONDS_A_DAY}
            return len(connection.execute(sql.EXPIRE, given).all())

    def settle_answered(self, task: str) -> int:
        """Close the open items that labels from elsewhere have answered; how many."""
        with self._database.begin() as connection:
            return settle_answered(connection, task)

    def counts(self, task: str) -> list[QueueCount]:
        """How many items there are by reason and state, open ones first."""
        with self._database.begin() as connection:
            return [QueueCount(*row) for row in connection.execute(sql.COUNTS, {"task": task})]

    def left_for(self, task: str, annotator: str) -> int:
        """How many open items the annotator has neither answered nor skipped, whoever has them at present."""
        with self._database.begin() as connection:
            given = {"task": task, "annotator": annotator}
            return int(connection.execute(sql.LEFT_FOR, given).scalar_one())

    def top(self, task: str, limit: int) -> list[QueuedItem]:
        """The open items in the order in which they are handed out."""
        with self._database.begin() as connection:
            return [QueuedItem(*row) for row in connection.execute(sql.TOP, {"task": task, "limit": limit})]


def add_items(connection: Connection, items: Sequence[NewTask], run_id: int | None = None) -> int:
    """Queue items in a transaction of the caller's; `LabelTaskStore.add` says how."""
    chosen = one_a_record(items)
    if not chosen:
        return 0
    columns = zip(*chosen, strict=True)
    names = ("records", "tasks", "reasons", "strategies", "priorities", "wanted")
    given = {name: list(column) for name, column in zip(names, columns, strict=True)}
    return len(connection.execute(sql.ADD, {**given, "run_id": run_id}).all())


def one_a_record(items: Sequence[NewTask]) -> list[NewTask]:
    """Of several items for one record and task the one that `LabelTaskStore.add` queues.

    Raises:
        WrongUse: As from there.
    """
    chosen: dict[tuple[int, str], NewTask] = {}
    for item in map(_checked, items):
        before = chosen.get((item.record, item.task))
        if before is None or _gives_way(before, item):
            chosen[item.record, item.task] = item
    return list(chosen.values())


def _gives_way(before: NewTask, item: NewTask) -> bool:
    return before.reason != AUDIT and (item.reason == AUDIT or item.priority > before.priority)


def _key(item: LeasedItem) -> dict[str, Any]:
    return {"record": item.record, "task": item.task}


def _show(connection: Connection, record: int, task: str) -> LeasedItem:
    *shown, label, confidence, version = connection.execute(sql.SHOW, {"record": record, "task": task}).one()
    guess = None if label is None else Guess(label, confidence, version)
    return LeasedItem._make([*shown, guess])


def _checked(item: NewTask) -> NewTask:
    """The item with the priority as the column holds it: PostgreSQL refuses what does not fit."""
    if not 1 <= item.wanted_answers <= MAX_WANTED_ANSWERS:
        raise WrongUse(
            f"{item.wanted_answers} answers are wanted of record {item.record}: "
            f"ask for 1 to {MAX_WANTED_ANSWERS}."
        )
    try:
        (priority,) = struct.unpack("f", struct.pack("f", item.priority))
    except OverflowError:
        priority = float("inf")
    if not abs(priority) < float("inf"):
        raise WrongUse(f"The priority {item.priority} of record {item.record} is no finite 32-bit number.")
    return item._replace(priority=priority)
