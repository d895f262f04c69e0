"""How long annotators take for an answer: what labels cost.

Told by a bounded number of the newest answers of people; one that was taken back took its time as well. Only
answers with a time count, and none for more than ten minutes: a page may have been left open.
"""

from typing import NamedTuple

from sqlalchemy import text

from reviews.queue_item import LABEL_SET_SOURCE, UNDO_SOURCE
from storage.database import Database
from storage.plans import BY_INDEX
from storage.schema.labels import BY_PEOPLE

NEWEST_ANSWERS = 20_000
NEWEST_TIMED = 2_000

_SPENT = text(f"""
SELECT annotator, count(*) AS answers, count(seconds) AS timed, coalesce(sum(seconds), 0) AS seconds,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS median_seconds
  FROM (SELECT annotator, seconds FROM label
         WHERE task = :task AND {BY_PEOPLE} AND source NOT IN ('{UNDO_SOURCE}', '{LABEL_SET_SOURCE}')
         ORDER BY received_at DESC LIMIT :most) newest
 GROUP BY annotator ORDER BY annotator
""")  # noqa: S608  the constants above
_TIMED = text(f"""
SELECT newest.seconds, length(r.text) AS characters
  FROM (SELECT record, seconds FROM label
         WHERE task = :task AND {BY_PEOPLE} AND seconds IS NOT NULL
         ORDER BY received_at DESC LIMIT :most) newest
  JOIN review r ON r.record = newest.record
""")  # noqa: S608  the same


class TimeSpent(NamedTuple):
    """What the newest answers of one person took.

    Attributes:
        annotator: The name.
        answers: How many, "unsure" included.
        timed: How many of them came with a time.
        seconds: What those took together.
        median_seconds: Of those; None where there is none.
    """

    annotator: str
    answers: int
    timed: int
    seconds: float
    median_seconds: float | None


class TimedAnswer(NamedTuple):
    """One answer with its time.

    Attributes:
        seconds: That it took.
        characters: Of the text that was judged.
    """

    seconds: float
    characters: int


def time_spent(database: Database, task: str, most: int = NEWEST_ANSWERS) -> list[TimeSpent]:
    """What each person's answers took, among so many of the newest ones, by name."""
    with database.begin() as connection:
        connection.execute(BY_INDEX)
        return [TimeSpent(*row) for row in connection.execute(_SPENT, {"task": task, "most": most})]


def timed_answers(database: Database, task: str, most: int = NEWEST_TIMED) -> list[TimedAnswer]:
    """The newest answers that came with a time, whose texts are stored."""
    with database.begin() as connection:
        connection.execute(BY_INDEX)
        return [TimedAnswer(*row) for row in connection.execute(_TIMED, {"task": task, "most": most})]
