"""What is looked up for the few candidates that matter: embeddings and texts."""

import numpy as np
import numpy.typing as npt
from sqlalchemy import any_, select, text

from reviews.errors import WrongUse
from storage.copying import BIGINT, copy_columns
from storage.database import Database
from storage.pool import Integers, take_time
from storage.schema import embedding, review


def read_embeddings(
    database: Database, task: str, adapter_id: int, records: Integers
) -> tuple[Integers, npt.NDArray[np.float16]]:
    """Those of the records that have an embedding by this adapter, and their embeddings.

    Embeddings of different adapters lie in different spaces and do not compare.

    Args:
        database: Where from.
        task: The task.
        adapter_id: The adapter.
        records: int64 (rows): which records.

    Returns:
        int64 (rows with one) and float16 (rows with one, hidden).

    Raises:
        Unavailable: If the database does not answer.
    """
    is_its = (embedding.c.task == task) & (embedding.c.adapter_id == adapter_id)
    with database.begin() as connection:
        first = connection.execute(select(embedding.c.vector).where(is_its).limit(1)).scalar()
        if first is None:
            return np.empty(0, np.int64), np.empty((0, 0), np.float16)
        take_time(connection)
        columns = copy_columns(
            connection,
            "SELECT e.record, e.vector FROM embedding e JOIN unnest(%(records)s::bigint[]) AS w (record) "
            "ON w.record = e.record WHERE e.task = %(task)s AND e.adapter_id = %(adapter_id)s",
            {"records": records.tolist(), "task": task, "adapter_id": adapter_id},
            {"record": BIGINT, "vector": np.dtype(f"V{len(first)}")},
        )
    vectors = columns["vector"].view("<f2").reshape(len(columns["record"]), -1)
    return columns["record"], vectors.astype(np.float16, copy=False)


def read_texts(database: Database, records: Integers) -> list[str]:
    """The texts of records, in their order.

    Args:
        database: Where from.
        records: int64 (rows).

    Raises:
        WrongUse: If a record is no stored review.
        Unavailable: If the database does not answer.
    """
    wanted = records.tolist()
    query = select(review.c.record, review.c.text).where(review.c.record == any_(wanted))
    with database.begin() as connection:
        text_of = {row.record: row.text for row in connection.execute(query)}
    if missing := [record for record in wanted if record not in text_of]:
        raise WrongUse(f"Record {missing[0]} is no stored review: choose from a pool of this database.")
    return [text_of[record] for record in wanted]


_KNOWN = text("""
SELECT r.text
  FROM (SELECT record, max(at) AS at
          FROM (SELECT record, labelled_at AS at FROM label WHERE task = :task
                 UNION ALL
                SELECT record, queued_at FROM label_task WHERE task = :task AND state <> 'expired') AS each
         GROUP BY record ORDER BY at DESC, record LIMIT :limit) AS newest
  JOIN review r ON r.record = newest.record
 ORDER BY newest.at DESC, newest.record
""")


def read_known_texts(database: Database, task: str, limit: int) -> list[str]:
    """The texts that were labelled or queued last, the newest first.

    Args:
        database: Where from.
        task: The task.
        limit: At most so many.

    Raises:
        Unavailable: If the database does not answer.
    """
    with database.begin() as connection:
        return list(connection.execute(_KNOWN, {"task": task, "limit": limit}).scalars())
