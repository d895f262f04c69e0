"""Erasures: what was asked for, how far each is, and its receipt."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    func,
)

from storage.schema.columns import TIME, metadata

erasure = Table(
    "erasure",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("requested_at", TIME, nullable=False, server_default=func.clock_timestamp()),
    Column("requested_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("stage", Text, nullable=False, server_default="requested"),
    Column("progress", BigInteger, nullable=False, server_default="0"),  # within the stage
    Column("finished_at", TIME),
    Column("closed_at", TIME),
    Column("seal", Text),
    CheckConstraint("stage IN ('requested', 'traced', 'scrubbed', 'deleted', 'done')", name="stage"),
)


def _of_erasure() -> Column[Any]:
    return Column("erasure_id", Integer, ForeignKey("erasure.id"), primary_key=True)


erasure_review = Table(
    "erasure_review",
    metadata,
    _of_erasure(),
    Column("hash", LargeBinary, primary_key=True),
    Column("review_id", Text),  # until it is erased
)
Index("erasure_review_hash_idx", erasure_review.c.hash)

# Where each partition ended when it was asked for: what is read before that is not stored again.
erasure_position = Table(
    "erasure_position",
    metadata,
    _of_erasure(),
    Column("stream_partition_id", Integer, ForeignKey("stream_partition.id"), primary_key=True),
    Column("next_offset", BigInteger, nullable=False),
)

erasure_record = Table(
    "erasure_record",
    metadata,
    _of_erasure(),
    Column("record", BigInteger, primary_key=True, autoincrement=False),
    Column("text_sha256", Text, nullable=False),
)

erasure_finding = Table(
    "erasure_finding",
    metadata,
    _of_erasure(),
    Column("place", Text, primary_key=True),
    Column("rows", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("detail", Text, nullable=False, server_default=""),
    CheckConstraint("state IN ('erased', 'open')", name="state"),
)

# Runs whose dataset had an erased review, and adapters whose files hold one.
erasure_run = Table(
    "erasure_run",
    metadata,
    _of_erasure(),
    Column("run_id", Integer, ForeignKey("training_run.id"), primary_key=True),
)
erasure_adapter = Table(
    "erasure_adapter",
    metadata,
    _of_erasure(),
    Column("adapter_id", Integer, ForeignKey("adapter.id"), primary_key=True),
)
