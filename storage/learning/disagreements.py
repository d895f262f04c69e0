"""Disagreements: reviews that a shadow calls something else than the active adapter."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import text

from reviews.slices import SliceShares
from storage.adapters.same_answers import SAYS_THE_SAME, same_answers
from storage.database import Database
from storage.learning.pool import audit_condition
from storage.plans import BY_INDEX

_SHADOWED = 100_000
"""Disagreements are looked for among so many of the latest answers of shadows."""
# Current reviews that a shadow calls something else than the active adapter, and that nobody was asked
# about; the least certain first.
_DISAGREEMENTS = """
SELECT h.record, served.version, p.label, p.margin, shadow.version, h.label, h.margin
  FROM (SELECT record, task, adapter_id, label, margin FROM prediction_history
         WHERE reason = 'shadow' AND kept_at >= :since ORDER BY kept_at DESC LIMIT {among}) h
  JOIN prediction p ON p.record = h.record AND p.task = h.task AND p.adapter_id <> h.adapter_id
  JOIN current_review r ON r.record = h.record
  JOIN adapter served ON served.id = p.adapter_id
  JOIN adapter shadow ON shadow.id = h.adapter_id
 WHERE h.task = :task AND NOT {same}
   AND NOT EXISTS (
         SELECT FROM label l
          WHERE l.record = h.record AND l.task = h.task AND NOT starts_with(l.annotator, 'model:'))
   AND NOT EXISTS (SELECT FROM label_task t WHERE t.record = h.record AND t.task = h.task)
   AND NOT ({audit})
 ORDER BY least(p.margin, h.margin), h.record
 LIMIT :limit
"""


class Disagreement(NamedTuple):
    """A review that the shadow calls something else than the active adapter.

    Attributes:
        record: The review.
        served_by: The adapter whose answer is shown.
        label: Its label.
        margin: Difference of its two greatest probabilities.
        shadow: The adapter on trial.
        shadow_label: Its label.
        shadow_margin: Difference of its two greatest probabilities.
    """

    record: int
    served_by: str
    label: str
    margin: float
    shadow: str
    shadow_label: str
    shadow_margin: float


def disagreements(
    database: Database, task: str, since: datetime, shares: SliceShares, limit: int | None = None
) -> list[Disagreement]:
    """The current reviews where shadow and active adapter differ and that nobody was asked about yet.

    The least certain come first; none is of the audit slice. They are looked for among the latest 100,000
    answers of shadows.

    Args:
        database: Where to look.
        task: The task.
        since: Scored by the shadow since this moment (the database's clock).
        shares: How large the audit slice is.
        limit: At most so many; None for all.
    """
    statement = text(
        _DISAGREEMENTS.format(audit=audit_condition(shares.audit), among=_SHADOWED, same=SAYS_THE_SAME)
    )
    with database.begin() as connection:
        connection.execute(BY_INDEX)
        given = {"task": task, "since": since, "limit": limit, **same_answers(connection, task)}
        found = connection.execute(statement, given).all()
    return [Disagreement(*row) for row in found]
