"""Labelled audit reviews with the predictions of two adapters."""

from datetime import datetime

from sqlalchemy import text

from reviews.label import AuditRow
from reviews.slices import SliceShares, slice_of
from storage.database import Database
from storage.plans import BY_INDEX

MOST_AUDITED = 10_000
"""So many of the latest audited items are looked at."""

# An adapter's answer is the current one, or one that was replaced, or what it said as a shadow.
_ROWS = text("""
WITH labelled AS MATERIALIZED (
    SELECT q.record, coalesce(q.draw_weight, 1) AS draw_weight
      FROM (SELECT record, task, draw_weight FROM label_task
             WHERE task = :task AND reason = 'audit' ORDER BY state_changed_at DESC LIMIT :most) q
     WHERE (SELECT min(l.received_at) FROM label l
             WHERE l.record = q.record AND l.task = q.task
               AND NOT starts_with(l.annotator, 'model:')) >= :since
)
SELECT r.review_id, r.record, r.text, labelled.draw_weight,
       (SELECT c.label FROM label_consensus c WHERE c.record = r.record AND c.task = :task) AS label,
       COALESCE(
           (SELECT probabilities FROM prediction p
             WHERE p.record = r.record AND p.task = :task AND p.adapter_id = active.id),
           (SELECT probabilities FROM prediction_history h
             WHERE h.record = r.record AND h.task = :task AND h.adapter_id = active.id)) AS active,
       COALESCE(
           (SELECT probabilities FROM prediction p
             WHERE p.record = r.record AND p.task = :task AND p.adapter_id = previous.id),
           (SELECT probabilities FROM prediction_history h
             WHERE h.record = r.record AND h.task = :task AND h.adapter_id = previous.id)) AS previous
  FROM labelled
  JOIN review r ON r.record = labelled.record
  JOIN adapter active ON active.version = :active
  JOIN adapter previous ON previous.version = :previous
 ORDER BY r.record
""")


def audit_answers(
    database: Database, task: str, *, active: str, previous: str, since: datetime, shares: SliceShares
) -> list[AuditRow]:
    """Every review that the audit drew and whose first label came since then, with both adapters' answers.

    Labels from before an adapter served may have helped to choose it, and say nothing new about it. Labels
    that nobody was asked for may be of any choice, and say nothing of the stream.

    Args:
        database: Where to look.
        task: The task.
        active: The active adapter.
        previous: The one to compare it with.
        since: When the active one began (the database's clock).
        shares: How large the audit slice is.

    Returns:
        In order of record, answers as far as known; reviews that nobody agrees on are left out.
    """
    values = {"task": task, "active": active, "previous": previous, "since": since, "most": MOST_AUDITED}
    with database.begin() as connection:
        connection.execute(BY_INDEX)
        rows = connection.execute(_ROWS, values).all()
    return [
        AuditRow(row.record, row.text, row.label, _tuple(row.active), _tuple(row.previous), row.draw_weight)
        for row in rows
        if row.label is not None and slice_of(row.review_id, shares) == "audit"
    ]


def _tuple(probabilities: list[float] | None) -> tuple[float, ...] | None:
    return None if probabilities is None else tuple(probabilities)
