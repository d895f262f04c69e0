"""Sinks: topics that scored rows are published to, how far each is, and rows to publish again."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Integer,
    Table,
    Text,
    false,
)

from storage.schema.columns import metadata, moment

# A topic that scored rows are published to.
sink = Table(
    "sink",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("topic", Text, nullable=False, unique=True),
    Column("is_open", Boolean, nullable=False, server_default=false()),
    moment("created_at", now=True),
)

# How far a sink is in a partition of the stream.
sink_position = Table(
    "sink_position",
    metadata,
    Column("sink_id", Integer, ForeignKey("sink.id", ondelete="CASCADE"), primary_key=True),
    Column("stream_partition_id", Integer, ForeignKey("stream_partition.id"), primary_key=True),
    Column("next_record", BigInteger, nullable=False),
    moment("moved_at", now=True),
)

# A row that has changed since a sink published it, or may have. Of labels a trigger says so.
sink_change = Table(
    "sink_change",
    metadata,
    Column("sink_id", Integer, ForeignKey("sink.id", ondelete="CASCADE"), primary_key=True),
    Column("record", BigInteger, primary_key=True, autoincrement=False),
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("task", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("review_id", Text),  # of an erased review, whose row is gone
    CheckConstraint("reason IN ('labelled', 'rescored', 'erased')", name="reason"),
)
