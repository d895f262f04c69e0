"""How far labelling is: an annotator's answers of today, agreement with oneself, what others said, and ties.

Each statement looks at a bounded number of the newest answers. Their records are an array, whose length the
planner does not know: it looks them up by the index, and does not read all labels for a few thousand.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import text

from reviews.label import Label
from reviews.queue_item import LABEL_SET_SOURCE, UNDO_SOURCE, Guess, NewItem
from reviews.slices import Slice, SliceShares, slice_of
from storage.database import Database
from storage.labels.queue_contents import QueueContents, queued_records
from storage.labels.vocabulary import meanings, read_label_sets
from storage.schema.labels import BY_PEOPLE

NEWEST_OWN_ANSWERS = 500
NEWEST_ANSWERS = 2_000
"""Ties are looked for among so many of the newest answers."""

# An undo row takes one answer back.
_ANSWERED_SINCE = text(f"""
SELECT count(*) FILTER (WHERE source NOT IN ('{UNDO_SOURCE}', '{LABEL_SET_SOURCE}'))
       - count(*) FILTER (WHERE source = '{UNDO_SOURCE}')
  FROM label WHERE annotator = :annotator AND task = :task AND received_at >= :since
""")  # noqa: S608  nothing but the constant above
# Of the answers that were not taken back, those about a record that this annotator had answered before; each
# under the name that its label has now.
_CONSISTENCY = text(f"""
WITH history AS (
    SELECT l.record, l.label, l.source, l.labelled_at, l.id,
           lead(l.source, 1, '') OVER (PARTITION BY l.record ORDER BY l.labelled_at, l.id) AS next
      FROM label l
     WHERE l.task = :task AND l.annotator = :annotator AND l.record = ANY (ARRAY(
               SELECT record FROM label WHERE annotator = :annotator AND task = :task
                ORDER BY received_at DESC LIMIT {NEWEST_OWN_ANSWERS}))),
kept AS (
    SELECT label,
           lag(label) OVER same_record AS label_before,
           lag(id) OVER same_record IS NOT NULL AS is_repeated
      FROM history WHERE '{UNDO_SOURCE}' NOT IN (source, next) AND next <> '{LABEL_SET_SOURCE}'
    WINDOW same_record AS (PARTITION BY record ORDER BY labelled_at, id))
SELECT count(*) AS repeated, count(*) FILTER (WHERE label IS NOT DISTINCT FROM label_before) AS same
  FROM kept WHERE is_repeated
""")  # noqa: S608  nothing but the constants above
_MEDIAN = text(f"""
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds)
  FROM (SELECT seconds FROM label WHERE annotator = :annotator AND task = :task
         ORDER BY received_at DESC LIMIT {NEWEST_OWN_ANSWERS}) newest
""")  # noqa: S608  a number
# What the model says of records.
_GUESSES = text("""
SELECT p.record, p.label, p.confidence, a.version FROM prediction p JOIN adapter a ON a.id = p.adapter_id
 WHERE p.task = :task AND p.record = ANY(:records)
""")
_SCORED_TEXTS = text("""
SELECT (SELECT r.text FROM published_review r WHERE r.record = p.record) AS text, p.label
  FROM (SELECT record, task, label FROM prediction ORDER BY scored_at DESC LIMIT :most) p
 WHERE p.task = :task
""")
_NEWEST = f"""ANY (ARRAY(
SELECT record FROM label WHERE task = :task AND {BY_PEOPLE} ORDER BY received_at DESC LIMIT :most))"""  # noqa: S608
_AGREED = text(f"""
SELECT (SELECT r.review_id FROM review r WHERE r.record = c.record) AS review_id, c.label
  FROM label_consensus c WHERE c.task = :task AND c.record = {_NEWEST} AND c.label IS NOT NULL
""")  # noqa: S608  nothing but the constant above
_TIED = text(f"""
SELECT c.record FROM label_consensus c
 WHERE c.task = :task AND c.record = {_NEWEST} AND c.label IS NULL AND c.agreeing > 0 ORDER BY c.record
""")  # noqa: S608  the same


class Consistency(NamedTuple):
    """How often an annotator said the same about a review again.

    Attributes:
        repeated: So many answers were about a review that the annotator had answered before.
        same: So many of them were the answer of then.
    """

    repeated: int
    same: int


def answered_since(database: Database, task: str, annotator: str, since: datetime) -> int:
    """How many answers an annotator gave since a moment, without those that were taken back."""
    given = {"task": task, "annotator": annotator, "since": since}
    return max(0, int(database.fetch_value(_ANSWERED_SINCE, given)))


def median_seconds(database: Database, task: str, annotator: str) -> float | None:
    """How long the middle one of an annotator's newest answers took; None where none came with a time."""
    found: float | None = database.fetch_value(_MEDIAN, {"task": task, "annotator": annotator})
    return found


def consistency(database: Database, task: str, annotator: str) -> Consistency:
    """How consistent an annotator's newest answers are with the earlier ones about the same reviews."""
    row = database.fetch_one(_CONSISTENCY, {"task": task, "annotator": annotator})
    return Consistency(0, 0) if row is None else Consistency(row.repeated, row.same)


def labelled_by_slice(
    database: Database, task: str, shares: SliceShares, most: int
) -> Mapping[Slice, Mapping[str, int]]:
    """How many reviews of each slice and label people agree on, among so many of the newest answers."""
    rows = database.fetch(_AGREED, {"task": task, "most": most})
    counts: dict[Slice, Counter[str]] = {"audit": Counter(), "test": Counter(), "validation": Counter(),
                                         "train": Counter()}  # fmt: skip
    for review_id, label in rows:
        if review_id is not None:
            counts[slice_of(review_id, shares)][label] += 1
    return counts


def tied_records(database: Database, task: str) -> list[int]:
    """Records on which as many annotators say one thing as another, among those of the newest answers."""
    return list(database.fetch_values(_TIED, {"task": task, "most": NEWEST_ANSWERS}))


def queue_ties(database: Database, task: str) -> list[int]:
    """Let the queue ask about every tie that it never asked about; the records of all of them.

    As long as the answers are a tie, an item stays open whatever number of answers it wants. Those who have
    answered are not asked again.
    """
    tied = tied_records(database, task)
    new = sorted(set(tied) - queued_records(database, task, tied))
    QueueContents(database).add([NewItem(record, task, "tie", "tie", 0.0) for record in new])
    return tied


def answers_of_others(answers: Iterable[Label], annotator: str) -> Sequence[tuple[str, str | None]]:
    """The answer of each other annotator that counts, by name; answers are in the order they were given."""
    latest = {one.annotator: one for one in answers if one.annotator != annotator}
    return sorted((name, one.label) for name, one in latest.items() if one.source != UNDO_SOURCE)


def guesses(database: Database, task: str, records: Sequence[int]) -> dict[int, Guess]:
    """What the model says of records, where it scored them; for people who have answered already.

    In the labels of now, where an adapter of before says as much.
    """
    with database.begin() as connection:
        rows = connection.execute(_GUESSES, {"task": task, "records": list(records)}).all()
        label_set = read_label_sets(connection, task).get(task)
    became = {} if label_set is None else meanings(label_set)
    return {
        row.record: Guess(became.get(row.label) or row.label, row.confidence, row.version) for row in rows
    }


def newest_scored(database: Database, task: str, most: int) -> list[tuple[str, str]]:
    """Text and label of the reviews of a task among the newest predictions."""
    rows = database.fetch(_SCORED_TEXTS, {"task": task, "most": most})
    return [(row.text, row.label) for row in rows if row.text is not None]
