"""What the annotation queue contains: it is filled, emptied, counted and looked at here.

All times are by the database's clock. `storage/labels/annotation_queue.py` hands the items out and takes the
answers; `storage/labels/completion.py` says when an item has enough of them.
"""

import struct
from collections.abc import Sequence
from typing import Literal

from sqlalchemy import text

from reviews.errors import WrongUse
from reviews.queue_item import AUDIT, NewItem, QueueCount, QueuedItem
from reviews.slices import SliceShares, slice_of
from storage.database import Database
from storage.labels.completion import ANSWERS, ASKED_REASONS, close_answered

MAX_WANTED_ANSWERS = 100
LATEST_ITEMS = 100_000
"""Items that are not open any more are counted among so many of the latest."""
_SECONDS_A_DAY = 86_400

IS_FREE = "(q.lease_expires_at IS NULL OR q.lease_expires_at <= clock_timestamp())"
"""SQL that is true of an item ``q`` that nobody has at present."""
_GIVES_WAY = f"(q.state <> 'open' OR excluded.priority > q.priority AND q.reason <> '{AUDIT}')"

# An open item gives way to a greater priority; a closed one is opened anew, as if it were new, but for its
# token, which may never become smaller. What the audit drew gives way to nothing: answered sooner for a
# reason, it would be random no more.
_ADD = text(f"""
INSERT INTO label_task AS q
       (record, task, reason, strategy, priority, wanted_answers, draw_weight, training_run_id)
SELECT record, task, reason, strategy, priority, wanted, weight, :run_id
  FROM unnest(CAST(:records AS bigint[]), CAST(:tasks AS text[]), CAST(:reasons AS text[]),
              CAST(:strategies AS text[]), CAST(:priorities AS real[]), CAST(:wanted AS smallint[]),
              CAST(:weights AS real[]))
       AS new (record, task, reason, strategy, priority, wanted, weight)
 ORDER BY record, task
ON CONFLICT (record, task) DO UPDATE SET
    state = 'open',
    reason = CASE WHEN {_GIVES_WAY} THEN excluded.reason ELSE q.reason END,
    strategy = CASE WHEN {_GIVES_WAY} THEN excluded.strategy ELSE q.strategy END,
    draw_weight = CASE WHEN {_GIVES_WAY} THEN excluded.draw_weight ELSE q.draw_weight END,
    training_run_id = CASE WHEN {_GIVES_WAY} THEN excluded.training_run_id ELSE q.training_run_id END,
    priority = CASE WHEN {_GIVES_WAY} THEN excluded.priority ELSE q.priority END,
    wanted_answers = CASE WHEN q.state = 'open'
                          THEN greatest(q.wanted_answers, excluded.wanted_answers)
                          ELSE excluded.wanted_answers END,
    queued_at = CASE WHEN q.state = 'open' THEN q.queued_at ELSE now() END,
    state_changed_at = CASE WHEN q.state = 'open' THEN q.state_changed_at ELSE now() END
WHERE CASE q.state
      WHEN 'open' THEN {_GIVES_WAY} OR excluded.wanted_answers > q.wanted_answers
      WHEN 'expired' THEN true
      ELSE excluded.reason IN ({ASKED_REASONS}) END
""")  # noqa: S608  nothing but the constants above
_RELEASE = text("""
UPDATE label_task q SET holder = NULL, lease_expires_at = NULL WHERE q.holder = :holder
""")
# Closes the items that have been open for too long and that nobody holds.
_EXPIRE = text(f"""
UPDATE label_task q SET state = 'expired', state_changed_at = clock_timestamp()
 WHERE q.task = :task AND q.state = 'open' AND {IS_FREE}
   AND (q.state_changed_at < now() - make_interval(secs => :seconds)
        OR (SELECT r.record FROM published_review r WHERE r.record = q.record) IS NULL)
""")  # noqa: S608  nothing but the constants above

# Open items that nobody holds and that models agree on.
_AGREED_BY_MODELS = text(f"""
SELECT q.record, r.review_id
  FROM label_task q JOIN review r ON r.record = q.record
 WHERE q.task = :task AND q.state = 'open' AND {IS_FREE}
   AND q.reason NOT IN ('{AUDIT}', 'tie', {ASKED_REASONS})
   AND (SELECT m.label FROM model_consensus m WHERE m.record = q.record AND m.task = q.task) IS NOT NULL
   FOR UPDATE OF q SKIP LOCKED
""")  # noqa: S608  nothing but the constants above
_CLOSE = text("""
UPDATE label_task q SET state = 'done', state_changed_at = clock_timestamp()
 WHERE q.task = :task AND q.record = ANY(:records)
""")

# Open items by reason, and how many of them are leased; the others by reason and state, of the latest ones.
_COUNT_OPEN = text(f"""
SELECT q.reason, q.state, count(*) AS items, count(*) FILTER (WHERE NOT {IS_FREE}) AS leased
  FROM label_task q WHERE q.task = :task AND q.state = 'open' GROUP BY q.reason, q.state
 ORDER BY items DESC, q.reason
""")  # noqa: S608  nothing but the constants above
_COUNT_CLOSED = text(f"""
SELECT q.reason, q.state, count(*) AS items, 0 AS leased
  FROM (SELECT reason, state FROM label_task WHERE task = :task
         ORDER BY state_changed_at DESC LIMIT {LATEST_ITEMS}) q
 WHERE q.state <> 'open' GROUP BY q.reason, q.state
 ORDER BY q.state, items DESC, q.reason
""")  # noqa: S608  the same
# Open items in the order in which they are handed out.
_TOP = text(f"""
SELECT q.record, r.review_id, q.reason, q.strategy, q.priority, {ANSWERS}, q.wanted_answers,
       CASE WHEN {IS_FREE} THEN NULL ELSE q.holder END, q.queued_at, r.text
  FROM label_task q JOIN published_review r ON r.record = q.record
 WHERE q.task = :task AND q.state = 'open'
 ORDER BY q.priority DESC, q.record LIMIT :limit
""")  # noqa: S608  nothing but the constants above

# One array: a list of single values ends at 65,535 of them.
_QUEUED = text("SELECT record FROM label_task WHERE task = :task AND record = ANY(:records)")


class QueueContents:
    """The items of the queue, as those see them who fill and watch it.

    Args:
        database: Where it is.

    Raises:
        Unavailable: From every method, if the database does not answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, items: Sequence[NewItem], run_id: int | None = None) -> int:
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
            WrongUse: If a priority is no finite number, the wanted answers are not 1 to 100, or a draw weight
                is not in (0, 1].
        """
        chosen = one_a_record(items)
        if not chosen:
            return 0
        columns = zip(*chosen, strict=True)
        names = ("records", "tasks", "reasons", "strategies", "priorities", "wanted", "weights")
        given = {name: list(column) for name, column in zip(names, columns, strict=True)}
        return self._database.execute(_ADD, {**given, "run_id": run_id})

    def release(self, holder: str) -> int:
        """Let others have everything that somebody holds, such as an annotator who has left; how many."""
        return self._database.execute(_RELEASE, {"holder": holder})

    def expire(self, task: str, older_than_days: float) -> int:
        """Close a task's open items that nobody has, if they are older than this or withdrawn; how many."""
        given = {"task": task, "seconds": older_than_days * _SECONDS_A_DAY}
        return self._database.execute(_EXPIRE, given)

    def close_answered(self, task: str) -> int:
        """Close the open items that labels from elsewhere have answered; how many."""
        with self._database.begin() as connection:
            return close_answered(connection, task)

    def close_answered_by_models(self, task: str, shares: SliceShares) -> int:
        """Close the open items of the training slice about which models agree; how many.

        Never one that the audit asked, or whose answer is to judge or to choose adapters.
        """
        with self._database.begin() as connection:
            rows = connection.execute(_AGREED_BY_MODELS, {"task": task}).all()
            records = [row.record for row in rows if slice_of(row.review_id, shares) == "train"]
            given = {"task": task, "records": records}
            return connection.execute(_CLOSE, given).rowcount if records else 0

    def counts(self, task: str, state: Literal["open"] | None = None) -> list[QueueCount]:
        """How many items there are by reason and state, open ones first; or only the open ones.

        Those that are not open any more are counted among the latest 100,000 items.
        """
        queries = (_COUNT_OPEN, _COUNT_CLOSED) if state is None else (_COUNT_OPEN,)
        return [QueueCount(*row) for query in queries for row in self._database.fetch(query, {"task": task})]

    def top(self, task: str, limit: int) -> list[QueuedItem]:
        """The open items in the order in which they are handed out."""
        return [QueuedItem(*row) for row in self._database.fetch(_TOP, {"task": task, "limit": limit})]


def queued_records(database: Database, task: str, records: Sequence[int]) -> frozenset[int]:
    """Those of the records that were queued before, whatever became of them."""
    return frozenset(database.fetch_values(_QUEUED, {"task": task, "records": list(records)}))


def one_a_record(items: Sequence[NewItem]) -> list[NewItem]:
    """Of several items for one record and task the one that :meth:`QueueContents.add` queues.

    Raises:
        WrongUse: As from there.
    """
    chosen: dict[tuple[int, str], NewItem] = {}
    for item in map(_checked, items):
        before = chosen.get((item.record, item.task))
        if before is None or _gives_way(before, item):
            chosen[item.record, item.task] = item
    return list(chosen.values())


def _gives_way(before: NewItem, item: NewItem) -> bool:
    return before.reason != AUDIT and (item.reason == AUDIT or item.priority > before.priority)


def _checked(item: NewItem) -> NewItem:
    """The item with the priority as the column holds it: PostgreSQL refuses what does not fit."""
    if not 1 <= item.wanted_answers <= MAX_WANTED_ANSWERS:
        raise WrongUse(
            f"{item.wanted_answers} answers are wanted of record {item.record}: "
            f"ask for 1 to {MAX_WANTED_ANSWERS}."
        )
    if item.draw_weight is not None and not 0 < item.draw_weight <= 1:
        raise WrongUse(
            f"The draw weight {item.draw_weight} of record {item.record} is not above 0 and at most 1."
        )
    try:
        (priority,) = struct.unpack("f", struct.pack("f", item.priority))
    except OverflowError:
        priority = float("inf")
    if not abs(priority) < float("inf"):
        raise WrongUse(f"The priority {item.priority} of record {item.record} is no finite 32-bit number.")
    return item._replace(priority=priority)
