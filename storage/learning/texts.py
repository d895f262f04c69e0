"""Texts that training and selection read beside the pool: the first, the known, and those of records."""

from sqlalchemy import any_, select, text

from reviews.errors import WrongUse
from storage.database import Database
from storage.learning.pool import Integers
from storage.schema.stream import review

# The texts that were labelled or queued last.
_KNOWN = text("""
SELECT r.text
  FROM (SELECT record, max(at) AS at
          FROM ((SELECT record, received_at AS at FROM label
                  WHERE task = :task AND NOT starts_with(annotator, 'model:')
                  ORDER BY received_at DESC, record LIMIT :among)
                 UNION ALL
                (SELECT record, queued_at
                   FROM (SELECT record, queued_at, state FROM label_task WHERE task = :task
                          ORDER BY queued_at DESC LIMIT :among) AS queued
                  WHERE state <> 'expired')) AS each
         GROUP BY record ORDER BY at DESC, record LIMIT :limit) AS newest
  JOIN review r ON r.record = newest.record
 ORDER BY newest.at DESC, newest.record
""")
_ANSWERS_OF_ONE = 5  # a text may have been answered so often, and be known once
# Each record once, though every task has a prediction of it.
_FIRST_TEXTS = text("""
SELECT r.text
  FROM (SELECT record, min(scored_at) AS scored_at
          FROM (SELECT record, scored_at FROM prediction ORDER BY scored_at LIMIT :among) AS first
         GROUP BY record ORDER BY scored_at, record LIMIT :most) AS each
  JOIN current_review r ON r.record = each.record
 ORDER BY each.scored_at, each.record
""")
_TASKS_OF_ONE = 8  # a review may be scored for so many tasks before fewer texts are found than there are


def read_first_texts(database: Database, most: int) -> list[str]:
    """The texts of the reviews that were scored first and are current, at most so many."""
    return [row.text for row in database.fetch(_FIRST_TEXTS, {"most": most, "among": _TASKS_OF_ONE * most})]


def read_texts(database: Database, records: Integers) -> list[str]:
    """The texts of records, in their order.

    Args:
        database: Where from.
        records: int64 (rows).

    Raises:
        WrongUse: If a record is no stored review.
    """
    wanted = records.tolist()
    query = select(review.c.record, review.c.text).where(review.c.record == any_(wanted))
    text_of = {row.record: row.text for row in database.fetch(query)}
    if missing := [record for record in wanted if record not in text_of]:
        raise WrongUse(f"Record {missing[0]} is no stored review: choose from a pool of this database.")
    return [text_of[record] for record in wanted]


def read_known_texts(database: Database, task: str, limit: int) -> list[str]:
    """The texts that were labelled or queued last, the newest first.

    Args:
        database: Where from.
        task: The task.
        limit: At most so many.
    """
    given = {"task": task, "limit": limit, "among": _ANSWERS_OF_ONE * limit}
    return list(database.fetch_values(_KNOWN, given))
