"""Annotations of Label Studio, each with the answer that it gave.

Label Studio tells what happened to an annotation: created, changed, deleted. Messages may come twice, late
and in any order, so what an annotation said last is kept beside the labels: an older message changes nothing,
a deletion takes back the answer of this annotation and no other, and a deleted one does not come back.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from reviews.label import Label
from reviews.label_studio import LABEL_STUDIO_SOURCE, GivenAnnotation
from reviews.queue_item import ItemLease
from storage.database import Database
from storage.labels.annotation_queue import reopen, withdraw_answer, write_skip
from storage.labels.rows import add_labels

_NOTE = text("""
INSERT INTO label_studio_annotation (project, number) VALUES (:project, :number) ON CONFLICT DO NOTHING
""")
# What an annotation said last; of a message from the future counts the time at which it came.
_LOCK = text("""
SELECT is_deleted, changed_at, record, annotator, answers,
       least(CAST(:changed_at AS timestamptz), clock_timestamp()) AS stated_at
  FROM label_studio_annotation WHERE project = :project AND number = :number FOR UPDATE
""")
_KEEP = text("""
UPDATE label_studio_annotation
   SET in_task = :in_task, record = :record, annotator = :annotator, answers = CAST(:answers AS jsonb),
       changed_at = :changed_at
 WHERE project = :project AND number = :number
""")
_DELETE = text("""
UPDATE label_studio_annotation SET is_deleted = true, answers = '{}'
 WHERE project = :project AND number = :number
""")
# The latest other annotation by which this annotator answers the same.
_OTHER = text("""
SELECT project, number, answers FROM label_studio_annotation
 WHERE record = :record AND annotator = :annotator AND answers ? :task AND NOT is_deleted
   AND (project, number) <> (:project, :number)
 ORDER BY changed_at DESC, number DESC LIMIT 1 FOR UPDATE
""")
_SET_ANSWERS = text("""
UPDATE label_studio_annotation SET answers = CAST(:answers AS jsonb)
 WHERE project = :project AND number = :number
""")
_STANDING = text("""
SELECT in_task, number FROM label_studio_annotation
 WHERE project = :project AND in_task = ANY(:in_tasks) AND NOT is_deleted
""")


class AnnotationStore:
    """Takes in what Label Studio says of annotations; every message once, whatever its order.

    Raises:
        Unavailable: From every method, if the database does not answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def store(self, annotation: GivenAnnotation) -> bool:
        """Let an annotation's answers count, in place of what it said before.

        Returns:
            Whether it was news: False for a repeated or older message, and for a deleted annotation.
        """
        key = {"project": annotation.project, "number": annotation.number}
        with self._database.begin() as connection:
            connection.execute(_NOTE, key)
            before = connection.execute(_LOCK, {**key, "changed_at": annotation.changed_at}).one()
            is_old = before.changed_at is not None and before.changed_at >= annotation.changed_at
            if before.is_deleted or is_old:
                return False
            subject = (annotation.record, annotation.annotator)
            is_same = (before.record, before.annotator) == subject
            kept = set(annotation.answers) if is_same else set()
            connection.execute(_KEEP, {**key, **_columns(annotation, before.stated_at)})
            _take_back(connection, key, before, [task for task in before.answers if task not in kept])
            self._say(connection, annotation, before.stated_at)
        return True

    def delete(self, project: str, numbers: Sequence[int]) -> int:
        """Take back what these annotations said; how many were not deleted before.

        Another annotation by which the same person answered the same counts again.
        """
        deleted = 0
        for number in numbers:
            key = {"project": project, "number": number}
            with self._database.begin() as connection:
                connection.execute(_NOTE, key)
                before = connection.execute(_LOCK, {**key, "changed_at": None}).one()
                if before.is_deleted:
                    continue
                connection.execute(_DELETE, key)
                _take_back(connection, key, before, list(before.answers))
            deleted += 1
        return deleted

    def standing(self, project: str, in_tasks: Sequence[int]) -> dict[int, set[int]]:
        """The annotations that were not deleted, by the numbers of Label Studio's tasks."""
        found: dict[int, set[int]] = {}
        for row in self._database.fetch(_STANDING, {"project": project, "in_tasks": list(in_tasks)}):
            found.setdefault(row.in_task, set()).add(row.number)
        return found

    def _say(self, connection: Connection, annotation: GivenAnnotation, stated_at: datetime) -> None:
        add_labels(
            connection,
            [
                Label(annotation.record, task, label, annotation.annotator, LABEL_STUDIO_SOURCE, stated_at)
                for task, label in annotation.answers.items()
            ],
        )
        for task in annotation.passed_on:
            write_skip(connection, ItemLease(annotation.record, task), annotation.annotator)


def _columns(annotation: GivenAnnotation, stated_at: datetime) -> dict[str, Any]:
    answers = {task: [label, stated_at.isoformat()] for task, label in annotation.answers.items()}
    return {
        "in_task": annotation.in_task,
        "record": annotation.record,
        "annotator": annotation.annotator,
        "changed_at": annotation.changed_at,
        "answers": json.dumps(answers),
    }


def _take_back(connection: Connection, key: Mapping[str, Any], before: Any, tasks: Sequence[str]) -> None:
    """Take back what an annotation said of these tasks, unless the annotator has said something since."""
    for task in tasks:
        item, stated_at = ItemLease(before.record, task), datetime.fromisoformat(before.answers[task][1])
        moment = withdraw_answer(connection, item, before.annotator, stated_at)
        if moment is None:
            continue
        given = {**key, "record": before.record, "annotator": before.annotator, "task": task}
        other = connection.execute(_OTHER, given).one_or_none()
        if other is None:
            reopen(connection, item)
        else:
            _say_again(connection, other, item, before.annotator, moment)


def _say_again(connection: Connection, other: Any, item: ItemLease, annotator: str, moment: datetime) -> None:
    """Let another annotation of the same person count again: its answer follows what was taken back."""
    label = other.answers[item.task][0]
    answers = {**other.answers, item.task: [label, moment.isoformat()]}
    given = {"project": other.project, "number": other.number, "answers": json.dumps(answers)}
    connection.execute(_SET_ANSWERS, given)
    add_labels(connection, [Label(item.record, item.task, label, annotator, LABEL_STUDIO_SOURCE, moment)])
