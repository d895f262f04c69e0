"""The learning loop: leases, training runs and their datasets, and what MLflow has of them."""

from sqlalchemy import (
    REAL,
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import JSONB

from storage.schema.columns import TIME, metadata, moment

lease = Table(
    "lease",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("token", BigInteger, nullable=False),  # grows with every new holder: a fence against the old one
    moment("expires_at"),
)

training_run = Table(
    "training_run",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("task", Text, nullable=False),
    Column("trigger", Text, nullable=False),
    Column("state", Text, nullable=False, server_default="running"),
    Column("stage", Text, nullable=False, server_default="start"),
    moment("started_at", now=True),
    Column("finished_at", TIME),
    Column("lease_token", BigInteger, nullable=False),
    Column("config", JSONB, nullable=False),
    Column("manifest", JSONB),
    Column("metrics", JSONB),
    Column("verdict", JSONB),
    Column("error", Text),
    Column("active_adapter", Text),
    Column("candidate_adapter", Text),
    Column("activation_id", Integer, ForeignKey("adapter_activation.id")),
    Column("progress", JSONB),  # of its fits, as far as they got
    CheckConstraint("state IN ('running', 'promoted', 'kept', 'waiting', 'failed')", name="state"),
)
Index("training_run_task_idx", training_run.c.task, training_run.c.id)

# Runs that people ask for; at most one request of a task is open.
run_request = Table(
    "run_request",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("task", Text, nullable=False),
    Column("requested_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    moment("requested_at", now=True),
    moment("expires_at"),
    Column("taken_at", TIME),
    Column("taken_by", Text),
    Column("run_id", Integer, ForeignKey("training_run.id"), unique=True),
    Column("closed_at", TIME),
    Column("error", Text),
)
Index(
    "run_request_open_idx",
    run_request.c.task,
    unique=True,
    postgresql_where=run_request.c.closed_at.is_(None),
)
Index("run_request_task_idx", run_request.c.task, run_request.c.id)

# What MLflow has: the id of a run there, or the number of a model version.
mlflow_mirror = Table(
    "mlflow_mirror",
    metadata,
    Column("server", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("mlflow_id", Text, nullable=False),
    moment("mirrored_at", now=True),
    CheckConstraint("kind IN ('run', 'adapter', 'activation')", name="kind"),
)

# The frozen dataset of a run.
training_item = Table(
    "training_item",
    metadata,
    Column("run_id", Integer, ForeignKey("training_run.id"), primary_key=True),
    Column("record", BigInteger, primary_key=True, autoincrement=False),
    Column("slice", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("weight", REAL, nullable=False),
    CheckConstraint("slice IN ('train', 'validation', 'test', 'audit')", name="slice"),
)
Index("training_item_record_idx", training_item.c.record)
