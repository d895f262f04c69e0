"""Changes of a task's labels, declared once and kept as versions: what becomes of the answers of before.

Nothing that people said is changed. Where a label was renamed or merged, a row with the new name follows each
answer that counts, of the same annotator and moment; where it was split, a row follows that takes the answer
back, and all of its reviews that the audit drew are asked about again, and a bounded number of others. So
everything that reads the latest answers reads the labels of now, and the history says what people chose.

The audit is a random draw: without the answers of one label it would speak for the other labels too much.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, TextClause, text
from sqlalchemy.exc import IntegrityError

from reviews.errors import ReviewLoopError, WrongUse
from reviews.label_set import LabelChange, LabelSet
from reviews.queue_item import AUDIT, LABEL_SET_SOURCE, UNDO_SOURCE
from storage.database import Database
from storage.labels.completion import close_answered
from storage.labels.vocabulary import meanings, read_label_sets, read_vocabularies

FIRST = "first"
MOST_FOLLOWED = 100_000
"""Answers under old names that slipped in, and those to be asked again, are among so many of the newest."""
_STRATEGY = "label-set"
_PRIORITY = 1.0  # it was worth a label before
_STEP = 20_000

_DECLARE = text("""
INSERT INTO label_set (task, version, labels, kind, sources, targets, declared_by)
VALUES (:task, :version, :labels, :kind, :sources, :targets, :declared_by)
""")
_HISTORY = text("""
SELECT version, labels, kind, sources, targets, declared_by, declared_at
  FROM label_set WHERE task = :task ORDER BY version
""")
_GIVEN = text(f"""
SELECT DISTINCT label
  FROM (SELECT label FROM label WHERE task = :task ORDER BY received_at DESC LIMIT {MOST_FOLLOWED}) newest
 WHERE label IS NOT NULL ORDER BY label
""")  # noqa: S608  a number
_NEWEST = "SELECT record FROM label WHERE task = :task ORDER BY received_at DESC LIMIT :most"
_LAST_OF_STEP = text(f"""
SELECT max(id) FROM (SELECT id FROM label WHERE id > :after AND id <= :end ORDER BY id LIMIT {_STEP}) step
""")  # noqa: S608  a number
_LAST = text("SELECT coalesce(max(id), 0) FROM label")
_NAMING = """SELECT n.record FROM label n
 WHERE n.id > :after AND n.id <= :last AND n.task = :task AND n.label = ANY (CAST(:old AS text[]))"""
# Each answer under one of the old names that counts is followed by one under its new name, or by one that
# takes it back. What was said when stays: a run counts no mapped answer as a new one.
_FOLLOW = """
WITH latest AS (
    SELECT DISTINCT ON (l.record, l.annotator) l.record, l.annotator, l.label, l.labelled_at, l.received_at
      FROM label l
     WHERE l.task = :task AND l.record = ANY ({records})
     ORDER BY l.record, l.annotator, l.labelled_at DESC, l.id DESC)
INSERT INTO label (record, task, label, annotator, source, labelled_at, received_at)
SELECT latest.record, :task, changed.new, latest.annotator,
       CASE WHEN changed.new IS NULL THEN :undo ELSE :mapped END, latest.labelled_at, latest.received_at
  FROM latest
  JOIN unnest(CAST(:old AS text[]), CAST(:new AS text[])) AS changed (old, new) ON changed.old = latest.label
 ORDER BY latest.record
RETURNING record, label
"""
_FOLLOW_GIVEN = text(_FOLLOW.format(records="CAST(:records AS bigint[])"))
_FOLLOW_STEP = text(_FOLLOW.format(records=f"ARRAY({_NAMING})"))
_FOLLOW_NEWEST = text(_FOLLOW.format(records=f"ARRAY({_NEWEST})"))
# The records whose answers of these names count, or were taken back: all that the audit drew, and the newest
# others; not those that somebody is asked about, or whose text is gone. Among the newest answers.
_TO_ASK = text(f"""
WITH latest AS (
    SELECT DISTINCT ON (l.record, l.annotator) l.record, l.label, l.source, l.received_at
      FROM label l
     WHERE l.task = :task AND l.record = ANY (ARRAY(
               SELECT n.record
                 FROM (SELECT record, label FROM label WHERE task = :task
                        ORDER BY received_at DESC LIMIT {MOST_FOLLOWED}) n
                WHERE n.label = ANY (CAST(:names AS text[]))))
     ORDER BY l.record, l.annotator, l.labelled_at DESC, l.id DESC),
found AS (
SELECT latest.record, coalesce(q.reason = :audit, false) AS is_audit, max(latest.received_at) AS answered_at
  FROM latest LEFT JOIN label_task q ON q.record = latest.record AND q.task = :task
 WHERE (latest.label = ANY (CAST(:names AS text[])) OR latest.source = :undo)
   AND q.state IS DISTINCT FROM 'open'
   AND EXISTS (SELECT FROM published_review r WHERE r.record = latest.record)
 GROUP BY latest.record, q.reason)
SELECT record FROM found
 ORDER BY is_audit DESC, answered_at DESC, record LIMIT (SELECT :most + count(*) FROM found WHERE is_audit)
""")  # noqa: S608  a number
# An item keeps its reason: what the audit drew stays a random draw, of the moment when it was drawn.
_REOPEN = text("""
UPDATE label_task SET state = 'open', state_changed_at = clock_timestamp(), priority = :priority,
       queued_at = CASE WHEN reason = :audit THEN queued_at ELSE clock_timestamp() END
 WHERE task = :task AND record = ANY (CAST(:records AS bigint[])) AND state <> 'open'
""")
_QUEUE = text("""
INSERT INTO label_task (record, task, reason, strategy, priority)
SELECT record, :task, 'second_look', :strategy, :priority
  FROM unnest(CAST(:records AS bigint[])) AS given (record) ORDER BY record
ON CONFLICT (record, task) DO NOTHING
""")


class LabelSetChanged(ReviewLoopError):
    """Somebody else changed the labels meanwhile: nothing was changed; look at them and decide again."""


class LabelSetVersion(NamedTuple):
    """The labels of a task from one declaration to the next.

    Attributes:
        version: 1: as the adapters had them before the first declaration.
        labels: In order.
        change: What was declared; None for the first version.
        declared_by: Who.
        declared_at: When (UTC).
    """

    version: int
    labels: tuple[str, ...]
    change: LabelChange | None
    declared_by: str
    declared_at: datetime


class ChangeEffect(NamedTuple):
    """What a change did, or would do.

    Attributes:
        label_set: The labels after it.
        mapped: Answers that count under another name now, by that name.
        taken_back: Answers that count no more.
        asked_again: Reviews that are asked about again.
    """

    label_set: LabelSet
    mapped: Mapping[str, int]
    taken_back: int
    asked_again: int


class LabelSetStore:
    """Reads and changes the labels of tasks.

    Raises:
        Unavailable: From every method, if the database does not answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def declared(self, task: str) -> LabelSet | None:
        """The declared labels of a task; None where nothing was declared."""
        with self._database.begin() as connection:
            return read_label_sets(connection, task).get(task)

    def current(self, task: str) -> LabelSet:
        """The labels of a task: as declared, else its adapter's, else those that people gave.

        Raises:
            WrongUse: If the task has none.
        """
        with self._database.begin() as connection:
            return _current(connection, task)

    def history(self, task: str) -> list[LabelSetVersion]:
        """Every version, the oldest first; none where nothing was declared."""
        return [
            LabelSetVersion(
                version,
                tuple(labels),
                None if kind == FIRST else LabelChange(kind, tuple(sources), tuple(targets)),
                declared_by,
                declared_at,
            )
            for version, labels, kind, sources, targets, declared_by, declared_at in self._database.fetch(
                _HISTORY, {"task": task}
            )
        ]

    def declare(
        self, task: str, change: LabelChange, declared_by: str, *, ask_again: int = 0, dry_run: bool = False
    ) -> ChangeEffect:
        """Change the labels of a task, and its answers with them, in one transaction.

        Args:
            task: Whose labels.
            change: What to do.
            declared_by: Who says so.
            ask_again: Of a split: ask again about at most so many reviews besides those of the audit.
            dry_run: Count only: nothing is kept.

        Raises:
            WrongUse: If the change cannot be made.
            LabelSetChanged: If somebody else changed the labels at the same time.
        """
        try:
            with self._database.begin() as connection, _kept(connection, not dry_run):
                return _declare(connection, task, change, declared_by, ask_again)
        except IntegrityError as err:
            raise LabelSetChanged(
                f"Somebody else changed the labels of '{task}' at the same time: nothing was changed. "
                "'reviewloop task labels' shows them."
            ) from err

    def ask_again(self, task: str, labels: Sequence[str], most: int, *, dry_run: bool = False) -> int:
        """Ask again about reviews that people gave one of these labels; how many.

        Their answers count no more. All that the audit drew are asked about, and those answered last.

        Args:
            task: The task.
            labels: Labels of now, or some that were split.
            most: At most so many besides those of the audit.
            dry_run: Count only: nothing is kept.

        Raises:
            WrongUse: If a label is none of the task's and never was.
        """
        with self._database.begin() as connection, _kept(connection, not dry_run):
            label_set = _current(connection, task)
            for name in labels:
                if name not in label_set.numbered:
                    shown = ", ".join(label_set.numbered)
                    raise WrongUse(f"'{name}' is and was no label of the task '{task}'; it has {shown}.")
            return _ask_again(connection, task, labels, most)


@contextmanager
def _kept(connection: Connection, is_kept: bool) -> Iterator[None]:
    """What is done within is kept, or was only done to be counted."""
    savepoint = connection.begin_nested()
    yield
    if is_kept:
        savepoint.commit()
    else:
        savepoint.rollback()


def follow(
    connection: Connection, task: str, label_set: LabelSet, records: Sequence[int] | None = None
) -> Counter[str | None]:
    """Let answers under old names count under the names of now; how many, by that name, None: taken back.

    Answers may come in under an old name after the change: a label that waited for its review, or one of a
    program that read the labels just before.

    Args:
        connection: The transaction.
        task: The task.
        label_set: Its labels.
        records: Whose answers; None: those of the newest 100,000.
    """
    among = {"most": MOST_FOLLOWED} if records is None else {"records": list(records)}
    statement = _FOLLOW_NEWEST if records is None else _FOLLOW_GIVEN
    return _follow(connection, statement, task, meanings(label_set), among)


def follow_newest(database: Database, task: str) -> int:
    """Let the newest answers of a task count under the names of now; how many were changed."""
    with database.begin() as connection:
        label_set = read_label_sets(connection, task).get(task)
        if label_set is None or not label_set.retired:
            return 0
        return follow(connection, task, label_set).total()


def _follow(
    connection: Connection,
    statement: TextClause,
    task: str,
    became: Mapping[str, str | None],
    among: Mapping[str, object],
) -> Counter[str | None]:
    if not became:
        return Counter()
    given = {"task": task, "old": list(became), "new": list(became.values()), **among}
    rows = connection.execute(statement, {**given, "undo": UNDO_SOURCE, "mapped": LABEL_SET_SOURCE}).all()
    if rows:
        close_answered(connection, task, sorted({row.record for row in rows}))
    return Counter(row.label for row in rows)


def _follow_all(connection: Connection, task: str, became: Mapping[str, str | None]) -> Counter[str | None]:
    """All answers of a task, in steps: no statement looks at more than a step."""
    counts = Counter[str | None]()
    after, end = 0, connection.execute(_LAST).scalar_one()
    while last := connection.execute(_LAST_OF_STEP, {"after": after, "end": end}).scalar():
        counts += _follow(connection, _FOLLOW_STEP, task, became, {"after": after, "last": last})
        after = last
    return counts


def _current(connection: Connection, task: str) -> LabelSet:
    declared = read_label_sets(connection, task).get(task)
    if declared is not None:
        return declared
    vocabulary = read_vocabularies(connection, task).get(task)
    labels = vocabulary.ordered if vocabulary else ()
    labels = labels or tuple(connection.execute(_GIVEN, {"task": task}).scalars())
    if not labels:
        raise WrongUse(f"The task '{task}' has no labels yet: no adapter has this task, and nobody labelled.")
    return LabelSet(labels, first=labels)


def _declare(
    connection: Connection, task: str, change: LabelChange, declared_by: str, ask_again: int
) -> ChangeEffect:
    before = _current(connection, task)
    after = before.changed(change)
    if before.version == 1:
        _keep(connection, task, before, None, declared_by)
    _keep(connection, task, after, change, declared_by)
    became = {name: new for name, new in meanings(after).items() if name in change.retired}
    counts = _follow_all(connection, task, became)
    taken_back = counts.pop(None, 0)
    asked = _ask_again(connection, task, change.sources, ask_again) if change.kind == "split" else 0
    return ChangeEffect(after, {str(name): count for name, count in counts.items()}, taken_back, asked)


def _keep(
    connection: Connection, task: str, label_set: LabelSet, change: LabelChange | None, declared_by: str
) -> None:
    given = {
        "task": task,
        "version": label_set.version,
        "labels": list(label_set.labels),
        "kind": FIRST if change is None else change.kind,
        "sources": [] if change is None else list(change.sources),
        "targets": [] if change is None else list(change.targets),
        "declared_by": declared_by,
    }
    connection.execute(_DECLARE, given)


def _ask_again(connection: Connection, task: str, names: Sequence[str], most: int) -> int:
    given = {"task": task, "names": list(names), "most": most, "undo": UNDO_SOURCE, "audit": AUDIT}
    records = list(connection.execute(_TO_ASK, given).scalars())
    if not records:
        return 0
    _follow(connection, _FOLLOW_GIVEN, task, dict.fromkeys(names), {"records": records})
    about = {"task": task, "records": records, "priority": _PRIORITY}
    connection.execute(_REOPEN, {**about, "audit": AUDIT})
    connection.execute(_QUEUE, {**about, "strategy": _STRATEGY})
    return len(records)
