"""What may be labelled of the audit slice."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from reviews.slices import SliceShares
from storage.database import Database
from storage.pool import CANDIDATES, Integers, take_time
from storage.slices import audit_condition

_COLUMNS = "SELECT p.record, r.review_id, floor(extract(epoch FROM r.published_at))::bigint AS published_at"


@dataclass(frozen=True, slots=True)
class AuditColumns:
    """Candidates of the audit slice, in order of their records.

    Attributes:
        records: int64 (rows).
        review_ids: As many.
        published_at: int64 (rows): seconds since 1970.
    """

    records: Integers
    review_ids: tuple[str, ...]
    published_at: Integers


def read_audit_pool(
    database: Database, task: str, shares: SliceShares, since: datetime | None = None
) -> AuditColumns:
    """Every candidate of a task inside the audit slice, by whatever adapter it was scored.

    Args:
        database: Where from.
        task: The task.
        shares: How large the audit slice is.
        since: Only reviews published and scored at or after this moment.

    Raises:
        Unavailable: If the database does not answer.
    """
    query = f"{_COLUMNS} {CANDIDATES} AND {audit_condition(shares.audit)} ORDER BY p.record"
    with database.begin() as connection:
        take_time(connection)
        rows = connection.exec_driver_sql(query, {"task": task, "since": since}).all()
    return AuditColumns(
        np.array([row.record for row in rows], np.int64),
        tuple(row.review_id for row in rows),
        np.array([row.published_at for row in rows], np.int64),
    )
