"""Drift reports."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Identity,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB

from storage.schema.columns import TIME, metadata, moment

drift_report = Table(
    "drift_report",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("task", Text, nullable=False),
    moment("created_at", now=True),
    moment("reference_since"),
    moment("reference_until"),
    moment("since"),
    moment("until"),
    Column("reviews", BigInteger, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("measures", JSONB, nullable=False),
    Column("attribution", JSONB, nullable=False),
    Column("alerted_at", TIME),
    # True where a version of this program wrote the row that knows neither.
    Column("wants_alert", Boolean, nullable=False, server_default=true()),
    Column("wants_training", Boolean, nullable=False, server_default=true()),
    CheckConstraint("verdict IN ('stable', 'drift', 'unknown')", name="verdict"),
    UniqueConstraint(
        "task", "reference_since", "reference_until", "since", "until", name="drift_report_windows_key"
    ),
)
