"""Which records are in the labelling queue, or ever were."""

from collections.abc import Sequence

from sqlalchemy import select

from storage.database import Database
from storage.schema import label_task


def queued_records(database: Database, task: str, records: Sequence[int]) -> frozenset[int]:
    """Those of the records that were queued before, whatever became of them.

    Raises:
        Unavailable: If the database does not answer.
    """
    query = select(label_task.c.record).where(
        label_task.c.task == task, label_task.c.record.in_(list(records))
    )
    with database.begin() as connection:
        return frozenset(connection.execute(query).scalars())
