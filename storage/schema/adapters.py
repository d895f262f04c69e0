"""Adapters with their files and activations, shadow trials, and rescoring of what is stored."""

from sqlalchemy import (
    ARRAY,
    REAL,
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
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSONB

from storage.schema.columns import TIME, lease_columns, metadata, moment

adapter = Table(
    "adapter",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("version", Text, nullable=False, unique=True),
    Column("task", Text, nullable=False),
    Column("labels", ARRAY(Text), nullable=False),
    Column("base_model", Text, nullable=False),
    Column("base_revision", Text),
    Column("content_hash", Text, nullable=False, unique=True),
    Column("temperature", REAL, nullable=False),
    Column("metrics", JSONB, nullable=False),
    Column("parent", Text),
    moment("created_at", now=True),
    Column("state", Text, nullable=False, server_default="registered"),  # rejected: the gate refused it
    CheckConstraint("state IN ('registered', 'rejected')", name="state"),
    Column("origin", Text, nullable=False, server_default="trained"),
    CheckConstraint("origin IN ('trained', 'zero-shot')", name="origin"),
)

adapter_file = Table(
    "adapter_file",
    metadata,
    Column("adapter_id", Integer, ForeignKey("adapter.id", ondelete="CASCADE"), primary_key=True),
    Column("path", Text, primary_key=True),
    Column("sha256", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),
)

# A chain: every activation names the one it replaces, and the unique key lets each be replaced once only.
adapter_activation = Table(
    "adapter_activation",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("task", Text, nullable=False),
    Column("adapter_id", Integer, ForeignKey("adapter.id"), nullable=False),
    Column("replaces", Integer, ForeignKey("adapter_activation.id")),
    moment("activated_at", now=True),
    Column("decided_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("restores", Integer, ForeignKey("adapter_activation.id")),  # what a rollback brought back
    UniqueConstraint("task", "replaces", postgresql_nulls_not_distinct=True),
)

adapter_shadow = Table(
    "adapter_shadow",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("task", Text, nullable=False),
    Column("adapter_id", Integer, ForeignKey("adapter.id"), nullable=False),
    Column("share", REAL, nullable=False),
    moment("started_at", now=True),
    Column("ended_at", TIME),
    Column("decided_by", Text, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("ended_by", Text),
    Column("end_reason", Text),
    CheckConstraint("share > 0 AND share <= 1", name="share"),
)
Index(
    "adapter_shadow_task_idx",
    adapter_shadow.c.task,
    unique=True,
    postgresql_where=adapter_shadow.c.ended_at.is_(None),
)

rescore_job = Table(
    "rescore_job",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("task", Text, nullable=False),
    Column("adapter_id", Integer, ForeignKey("adapter.id"), nullable=False),
    Column("since", TIME),
    Column("until", TIME),
    Column("state", Text, nullable=False, server_default="running"),
    moment("created_at", now=True),
    Column("finished_at", TIME),
    CheckConstraint("state IN ('running', 'done', 'cancelled')", name="state"),
)
Index(
    "rescore_job_running_idx",
    rescore_job.c.task,
    unique=True,
    postgresql_where=rescore_job.c.state == "running",
)

rescore_range = Table(
    "rescore_range",
    metadata,
    Column("job_id", Integer, ForeignKey("rescore_job.id"), primary_key=True),
    Column("first_record", BigInteger, primary_key=True, autoincrement=False),
    Column("next_record", BigInteger, nullable=False),
    Column("done_record", BigInteger, nullable=False),
    Column("replaced", BigInteger, nullable=False, server_default="0"),
    *lease_columns(),
    Column("finished_at", TIME),
    Column("refused", BigInteger, nullable=False, server_default="0"),  # texts that the model failed on
)
Index(
    "rescore_range_left_idx",
    rescore_range.c.job_id,
    rescore_range.c.first_record,
    postgresql_where=rescore_range.c.finished_at.is_(None),
)
