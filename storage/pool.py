"""What may be labelled: current, scored, unanswered reviews that wait in no queue, as columns."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, select

from reviews.errors import WrongUse
from reviews.slices import SliceShares
from storage.copying import BIGINT, INTEGER, REAL, TIMESTAMP, Columns, copy_columns, to_seconds
from storage.database import Database
from storage.schema import adapter, adapter_activation
from storage.slices import audit_condition
from storage.versions import is_superseded

Integers = npt.NDArray[np.int64]
LabelsOf = dict[int, tuple[str, ...]]

CANDIDATES = f"""
  FROM prediction p
  JOIN review r ON r.record = p.record
 WHERE p.task = %(task)s
   AND NOT {is_superseded("r")}
   AND NOT EXISTS (SELECT FROM label l WHERE l.record = p.record AND l.task = p.task)
   AND NOT EXISTS (
         SELECT FROM label_task t
          WHERE t.record = p.record AND t.task = p.task AND t.state <> 'expired')
   AND (%(since)s::timestamptz IS NULL
        OR r.published_at >= %(since)s::timestamptz AND p.scored_at >= %(since)s::timestamptz)
"""  # noqa: S608  nothing but names of columns
"""Predictions ``p`` and their reviews ``r`` that may be labelled; by the names ``task`` and ``since``."""


@dataclass(frozen=True, slots=True)
class PoolColumns:
    """Candidates for training, in order of their records.

    Attributes:
        adapter_id: The active adapter, whose labels the columns of ``probabilities`` are.
        labels: Their names.
        records: int64 (rows).
        probabilities: float32 (rows, labels).
        published_at: int64 (rows): seconds since 1970.
    """

    adapter_id: int
    labels: tuple[str, ...]
    records: Integers
    probabilities: npt.NDArray[np.float32]
    published_at: Integers


def read_pool(
    database: Database, task: str, shares: SliceShares, since: datetime | None = None
) -> PoolColumns:
    """Every candidate of a task outside the audit slice.

    A candidate is the newest version of its review, has a prediction by an adapter that knows the active
    one's labels, has no answer (not even "unsure"), and is neither open, done nor skipped in the queue.

    Args:
        database: Where from.
        task: The task.
        shares: How large the audit slice is.
        since: Only reviews published and scored at or after this moment.

    Raises:
        WrongUse: If the task has no active adapter.
        Unavailable: If the database does not answer.
    """
    with database.begin() as connection:
        active, labels_of = _adapters(connection, task)
        columns = _read_columns(connection, task, labels_of, shares, since)
    order = np.argsort(columns["record"], kind="stable")  # the server's own order is not always the same
    columns = {name: column[order] for name, column in columns.items()}
    return PoolColumns(
        active,
        labels_of[active],
        columns["record"],
        _probabilities(columns, active, labels_of),
        to_seconds(columns["published_at"]),
    )


def take_time(connection: Connection) -> None:
    """A read of a large pool takes as long as it takes; a dead server is still noticed by its connection."""
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")


def _adapters(connection: Connection, task: str) -> tuple[int, LabelsOf]:
    """The active adapter, and every adapter of the task that knows the same labels, in whatever order."""
    newest = select(adapter_activation.c.adapter_id).where(adapter_activation.c.task == task)
    active = connection.execute(newest.order_by(adapter_activation.c.id.desc()).limit(1)).scalar()
    if active is None:
        raise WrongUse(
            f"The task '{task}' has no active adapter: 'reviewloop adapters activate' chooses one."
        )
    rows = connection.execute(select(adapter.c.id, adapter.c.labels).where(adapter.c.task == task))
    labels_of = {row.id: tuple(row.labels) for row in rows}
    known = set(labels_of[active])
    return active, {id_: labels for id_, labels in labels_of.items() if set(labels) == known}


def _read_columns(
    connection: Connection, task: str, labels_of: LabelsOf, shares: SliceShares, since: datetime | None
) -> Columns:
    count = len(next(iter(labels_of.values())))
    names = [f"p{column}" for column in range(count)]
    # Arrays count from 1. A missing probability becomes one that no strategy accepts.
    values = [f"coalesce(p.probabilities[{column + 1}], 'NaN') AS p{column}" for column in range(count)]
    query = (
        f"SELECT p.record, p.adapter_id, r.published_at, {', '.join(values)} {CANDIDATES} "
        f"AND p.adapter_id = ANY(%(adapters)s) AND NOT {audit_condition(shares.audit)}"
    )
    types: dict[str, np.dtype[Any]] = {
        "record": BIGINT,
        "adapter_id": INTEGER,
        "published_at": TIMESTAMP,
        **dict.fromkeys(names, REAL),
    }
    take_time(connection)
    given = {"task": task, "since": since, "adapters": list(labels_of)}
    return copy_columns(connection, query, given, types)


def _probabilities(columns: Columns, active: int, labels_of: LabelsOf) -> npt.NDArray[np.float32]:
    """float32 (rows, labels), each row's in the order of the active adapter's labels."""
    labels = labels_of[active]
    result = np.stack([columns[f"p{column}"] for column in range(len(labels))], axis=1)
    for adapter_id, its_labels in labels_of.items():
        if its_labels != labels:
            rows = np.flatnonzero(columns["adapter_id"] == adapter_id)
            result[rows] = result[rows][:, [its_labels.index(name) for name in labels]]
    return result
