"""Which records are in the labelling queue, or ever were."""

from collections.abc import Sequence

from sqlalchemy import text

from storage.database import Database

# One array: a list of single values ends at 65,535 of them.
_QUEUED = text("SELECT record FROM label_task WHERE task = :task AND record = ANY(:records)")


def queued_records(database: Database, task: str, records: Sequence[int]) -> frozenset[int]:
    """Those of the records that were queued before, whatever became of them.

    Raises:
        Unavailable: If the database does not answer.
    """
    with database.begin() as connection:
        return frozenset(connection.execute(_QUEUED, {"task": task, "records": list(records)}).scalars())
