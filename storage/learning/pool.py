"""The pool of reviews that may be queued for labelling, mostly as columns.

However much is stored, a bounded number of records is looked at: the latest, and others drawn from all before
(`storage/record_ranges.py`), range after range. So time and memory of a night do not grow with the table.

The audit slice is asked about at random and for no other reason, so every read takes it alone or leaves it
out: in SQL, by the same hash and the same border as ``reviews.slices``, where the rows are.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, select, text

from reviews.errors import WrongUse
from reviews.slices import SliceShares
from storage.copying import BIGINT, INTEGER, REAL, TIMESTAMP, Columns, copy_columns, to_seconds
from storage.database import Database
from storage.plans import BY_INDEX
from storage.record_ranges import RecordRange, drawn, latest_and_drawn, received, steps, stored_ranges
from storage.schema.adapters import adapter
from storage.schema.views import active_adapter

Integers = npt.NDArray[np.int64]
LabelsOf = dict[int, tuple[str, ...]]

MOST_LOOKED_AT = 500_000
"""So many records are looked at for a pool."""
_STEP_RECORDS = 10_000
_EMBEDDINGS_AT_ONCE = 10_000
_QUEUED = 100_000
"""The last draw of the audit is looked for among so many of the items that were queued last."""

# Predictions p of a range of records and their reviews r that may be labelled; by the names task and since.
_CANDIDATES = """
  FROM prediction p
  JOIN current_review r ON r.record = p.record
 WHERE p.task = %(task)s AND p.record >= %(first)s AND p.record < %(next)s
   AND NOT EXISTS (
         SELECT FROM label l
          WHERE l.record = p.record AND l.task = p.task AND NOT starts_with(l.annotator, 'model:'))
   AND NOT EXISTS (
         SELECT FROM label_task t
          WHERE t.record = p.record AND t.task = p.task AND t.state <> 'expired')
   AND (%(since)s::timestamptz IS NULL
        OR r.published_at >= %(since)s::timestamptz AND p.scored_at >= %(since)s::timestamptz)
"""
_AUDIT_COLUMNS = "SELECT p.record, r.review_id, p.adapter_id, p.probabilities"
# When the audit of a task drew last.
_LAST_DRAW = text("""
SELECT max(queued_at)
  FROM (SELECT reason, queued_at FROM label_task WHERE task = :task
         ORDER BY queued_at DESC LIMIT :most) newest
 WHERE reason = 'audit'
""")

_EMBEDDED = """
  FROM unnest(%(records)s::bigint[]) AS w (record)
  JOIN embedding e ON e.record = w.record AND e.task = %(task)s AND e.adapter_id = %(adapter_id)s
"""


_HASH_BYTES = 7
_POSITIONS = 1 << (8 * _HASH_BYTES)


@dataclass(frozen=True, slots=True)
class PoolColumns:
    """Candidates for training, in order of their records.

    Attributes:
        adapter_id: The active adapter, whose labels the columns of ``probabilities`` are.
        labels: Their names.
        records: int64 (rows).
        probabilities: float32 (rows, labels).
        published_at: int64 (rows): seconds since 1970.
        characters: int64 (rows): the lengths of the texts; None where they were not asked for.
    """

    adapter_id: int
    labels: tuple[str, ...]
    records: Integers
    probabilities: npt.NDArray[np.float32]
    published_at: Integers
    characters: Integers | None = None


@dataclass(frozen=True, slots=True)
class AuditColumns:
    """Candidates of the audit slice, in order of their records.

    Attributes:
        records: int64 (rows).
        review_ids: As many.
        probabilities: float64 (rows, labels of the adapter that scored most of them): 0 for a label that the
            adapter of a row does not know.
    """

    records: Integers
    review_ids: tuple[str, ...]
    probabilities: npt.NDArray[np.float64]


def read_pool(
    database: Database,
    task: str,
    shares: SliceShares,
    since: datetime | None = None,
    *,
    most: int = MOST_LOOKED_AT,
    seed: int = 0,
    with_lengths: bool = False,
) -> PoolColumns:
    """Candidates of a task outside the audit slice: all, or those of a bounded part of the records.

    A candidate is the newest version of its review, has a prediction by an adapter that knows the active
    one's labels, has no answer of a person (not even "unsure"), and is neither open, done nor skipped in the
    queue.

    Args:
        database: Where from.
        task: The task.
        shares: How large the audit slice is.
        since: Only reviews published and scored at or after this moment.
        most: Of more records than that, the latest half as many, and others drawn from all before.
        seed: Of that draw.
        with_lengths: Whether the lengths of the texts are read as well.

    Raises:
        WrongUse: If the task has no active adapter.
    """
    with database.begin() as connection:
        active, labels_of = _adapters(connection, task)
    ranges = latest_and_drawn(list(stored_ranges(database).values()), most, seed)
    query, types = _query(labels_of, shares, with_lengths=with_lengths)
    given = {"task": task, "since": since, "adapters": list(labels_of)}
    parts = [_copy_range(database, query, {**given, **one._asdict()}, types) for one in _steps(ranges)]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in types}
    order = np.argsort(columns["record"], kind="stable")  # the server's own order is not always the same
    columns = {name: column[order] for name, column in columns.items()}
    return PoolColumns(
        active,
        labels_of[active],
        columns["record"],
        _probabilities(columns, active, labels_of),
        to_seconds(columns["published_at"]),
        columns["characters"].astype(np.int64) if with_lengths else None,
    )


def read_audit_pool(
    database: Database,
    task: str,
    shares: SliceShares,
    since: datetime | None = None,
    *,
    most: int = MOST_LOOKED_AT,
    seed: int = 0,
) -> AuditColumns:
    """Candidates of a task inside the audit slice, by whatever adapter they were scored.

    Each review is a candidate of one draw: only what was received since the last one. What a draw with
    unequal chances leaves over is no sample of the stream.

    Args:
        database: Where from.
        task: The task.
        shares: How large the audit slice is.
        since: Only reviews published and scored at or after this moment.
        most: Of more records since then, about so many, drawn at random: the audit is a random draw in any
            case.
        seed: Of that draw.
    """
    labels_of = {
        row.id: tuple(row.labels)
        for row in database.fetch(select(adapter.c.id, adapter.c.labels).where(adapter.c.task == task))
    }
    query = f"{_AUDIT_COLUMNS} {_CANDIDATES} AND {audit_condition(shares.audit)} ORDER BY p.record"
    rows: list[Any] = []
    last = database.fetch_value(_LAST_DRAW, {"task": task, "most": _QUEUED})
    received_since = max(filter(None, (since, last)), default=None)
    for one in _steps(drawn(_received_since(database, received_since), most, seed)):
        with database.begin() as connection:
            connection.execute(BY_INDEX)
            given = {"task": task, "since": since, **one._asdict()}
            rows += connection.exec_driver_sql(query, given).all()
    rows.sort(key=lambda row: row.record)
    return AuditColumns(
        np.array([row.record for row in rows], np.int64),
        tuple(row.review_id for row in rows),
        _by_label(rows, labels_of),
    )


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
    """
    found: list[tuple[Integers, npt.NDArray[np.float16]]] = []
    for place in range(0, len(records), _EMBEDDINGS_AT_ONCE):
        given = {"task": task, "adapter_id": adapter_id}
        with database.begin() as connection:
            part = _copy_embeddings(
                connection, {**given, "records": records[place : place + _EMBEDDINGS_AT_ONCE].tolist()}
            )
        if part is not None:
            found.append(part)
    if not found:
        return np.empty(0, np.int64), np.empty((0, 0), np.float16)
    return np.concatenate([part[0] for part in found]), np.concatenate([part[1] for part in found])


def audit_condition(share: float) -> str:
    r"""SQL that is true of a row ``r`` with a ``review_id`` of the audit slice.

    The hash of ``reviews.slices.hash_position`` compared as bytes, which is in order of the numbers that they
    spell.

    Args:
        share: The audit slice's share of all reviews, in [0, 1].
    """
    border = _first_outside(share)
    if border == _POSITIONS:
        return "true"
    digest = r"sha256('reviewloop slice\000'::bytea || convert_to(r.review_id, 'UTF8'))"
    return f"substr({digest}, 1, {_HASH_BYTES}) < '\\x{border.to_bytes(_HASH_BYTES, 'big').hex()}'::bytea"


def _first_outside(share: float) -> int:
    """The least hash whose position, rounded to a float as in ``hash_position``, is not below the share."""
    low, high = 0, _POSITIONS
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if middle / _POSITIONS < share else (low, middle)
    return low


def _adapters(connection: Connection, task: str) -> tuple[int, LabelsOf]:
    """The active adapter, and every adapter of the task that knows the same labels, in whatever order."""
    query = select(active_adapter.c.adapter_id).where(active_adapter.c.task == task)
    active = connection.execute(query).scalar()
    if active is None:
        raise WrongUse(f"The task '{task}' has no active adapter: 'reviewloop adapters promote' chooses one.")
    rows = connection.execute(select(adapter.c.id, adapter.c.labels).where(adapter.c.task == task))
    labels_of = {row.id: tuple(row.labels) for row in rows}
    known = set(labels_of[active])
    return active, {id_: labels for id_, labels in labels_of.items() if set(labels) == known}


def _steps(ranges: list[RecordRange]) -> list[RecordRange]:
    """At least one, so that there are columns of nothing where nothing is stored."""
    return steps(ranges, _STEP_RECORDS) or [RecordRange(0, 0)]


def _received_since(database: Database, since: datetime | None) -> list[RecordRange]:
    """The records since a moment. What was published or scored since then was not received before."""
    ranges = stored_ranges(database)
    if since is None or not ranges:
        return list(ranges.values())
    first = received(database, ranges, [since])[since]
    return [RecordRange(first[partition], one.next) for partition, one in ranges.items()]


def _query(
    labels_of: LabelsOf, shares: SliceShares, *, with_lengths: bool
) -> tuple[str, dict[str, np.dtype[Any]]]:
    """What reads the columns of a range of records, and their types."""
    count = len(next(iter(labels_of.values())))
    names = [f"p{column}" for column in range(count)]
    # Arrays count from 1. A missing probability becomes one that no strategy accepts.
    values = [f"coalesce(p.probabilities[{column + 1}], 'NaN') AS p{column}" for column in range(count)]
    columns = ["p.record", "p.adapter_id", "r.published_at", *values]
    columns += ["length(r.text) AS characters"] if with_lengths else []
    query = (
        f"SELECT {', '.join(columns)} {_CANDIDATES} "
        f"AND p.adapter_id = ANY(%(adapters)s) AND NOT {audit_condition(shares.audit)}"
    )
    types: dict[str, np.dtype[Any]] = {
        "record": BIGINT,
        "adapter_id": INTEGER,
        "published_at": TIMESTAMP,
        **dict.fromkeys(names, REAL),
        **({"characters": INTEGER} if with_lengths else {}),
    }
    return query, types


def _by_label(rows: Sequence[Any], labels_of: LabelsOf) -> npt.NDArray[np.float64]:
    """float64 (rows, labels): probabilities by the labels of the adapter that scored most of the rows."""
    counts = Counter(row.adapter_id for row in rows)
    names = labels_of[counts.most_common(1)[0][0]] if rows else ()
    found = np.zeros((len(rows), len(names)))
    for number, row in enumerate(rows):
        said = dict(zip(labels_of[row.adapter_id], row.probabilities, strict=False))
        found[number] = [said.get(name) or 0.0 for name in names]
    return found


def _copy_range(
    database: Database, query: str, given: dict[str, Any], types: dict[str, np.dtype[Any]]
) -> Columns:
    with database.begin() as connection:
        connection.execute(BY_INDEX)
        return copy_columns(connection, query, given, types)


def _copy_embeddings(
    connection: Connection, given: dict[str, Any]
) -> tuple[Integers, npt.NDArray[np.float16]] | None:
    """Records with an embedding, and these; None where none of them has one."""
    connection.execute(BY_INDEX)
    width = connection.exec_driver_sql(f"SELECT octet_length(e.vector) {_EMBEDDED} LIMIT 1", given).scalar()
    if width is None:
        return None
    types = {"record": BIGINT, "vector": np.dtype(f"V{width}")}
    columns = copy_columns(connection, f"SELECT e.record, e.vector {_EMBEDDED}", given, types)
    vectors = columns["vector"].view("<f2").reshape(len(columns["record"]), -1)
    return columns["record"], vectors.astype(np.float16, copy=False)


def _probabilities(columns: Columns, active: int, labels_of: LabelsOf) -> npt.NDArray[np.float32]:
    """float32 (rows, labels), each row's in the order of the active adapter's labels."""
    labels = labels_of[active]
    result = np.stack([columns[f"p{column}"] for column in range(len(labels))], axis=1)
    for adapter_id, its_labels in labels_of.items():
        if its_labels != labels:
            rows = np.flatnonzero(columns["adapter_id"] == adapter_id)
            result[rows] = result[rows][:, [its_labels.index(name) for name in labels]]
    return result
