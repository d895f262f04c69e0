"""How often an adapter was right on the audit slice, counted where the rows are."""

from datetime import datetime

from sqlalchemy import text

from reviews.slices import SliceShares
from storage.database import Database
from storage.slices import audit_condition

# A few labels lead to their predictions, however many of those the window has.
_COUNTS = """
SELECT c.label, p.label, count(*)
  FROM label_consensus c
  JOIN prediction p ON p.record = c.record AND p.task = c.task
  JOIN adapter a ON a.id = p.adapter_id AND a.version = :version
  JOIN review r ON r.record = c.record
 WHERE c.task = :task AND c.label IS NOT NULL AND p.scored_at >= :since AND p.scored_at < :until AND {audit}
 GROUP BY 1, 2
"""


def audit_counts(
    database: Database, task: str, version: str, *, since: datetime, until: datetime, shares: SliceShares
) -> dict[tuple[str, str], int]:
    """How many labelled audit reviews have each pair of labels: what people agreed on, what was predicted.

    Args:
        database: Where to look.
        task: The task.
        version: The adapter that predicted.
        since: Scored since this moment.
        until: Scored before this moment.
        shares: How large the audit slice is.

    Raises:
        Unavailable: If the database does not answer.
    """
    values = {"task": task, "version": version, "since": since, "until": until}
    with database.begin() as connection:
        rows = connection.execute(text(_COUNTS.format(audit=audit_condition(shares.audit))), values)
        return {(truth, predicted): count for truth, predicted, count in rows}
