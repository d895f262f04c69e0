"""What may ask for a run before the night: new answers, and a report of drift."""

from dataclasses import dataclass

from sqlalchemy import text

from storage.database import Database

_PENDING = text("""
SELECT (SELECT count(*) FROM label l
         WHERE l.task = :task AND (last.began IS NULL OR l.received_at > last.began)) AS new_labels,
       EXISTS (SELECT FROM drift_report d
                WHERE d.task = :task AND d.verdict = 'drift' AND d.wants_training
                  AND (last.began IS NULL OR d.created_at > last.began)
                  AND d.measures ->> 'adapter' = (
                      SELECT a.version FROM adapter_activation v JOIN adapter a ON a.id = v.adapter_id
                       WHERE v.task = :task ORDER BY v.id DESC LIMIT 1)) AS is_drifting
  FROM (SELECT max(started_at) AS began FROM training_run WHERE task = :task) last
""")


@dataclass(frozen=True, slots=True)
class Pending:
    """What came in since the last run of a task, however that run ended.

    Attributes:
        new_labels: Answers since it began.
        is_drifting: Whether a drift report of the adapter that serves asked for a run since. What a run
            reports itself asks for no other, or drift that stays would train without an end.
    """

    new_labels: int
    is_drifting: bool


def read_pending(database: Database, task: str) -> Pending:
    """What came in since the last run of a task.

    Raises:
        Unavailable: If the database does not answer.
    """
    with database.begin() as connection:
        row = connection.execute(_PENDING, {"task": task}).one()
    return Pending(row.new_labels, row.is_drifting)
