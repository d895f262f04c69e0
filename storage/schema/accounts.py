"""Accounts of the console, and the log of decisions.

Sessions, links and tokens are stored as SHA-256 of their secret.
"""

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

from storage.schema.columns import TIME, metadata, moment

console_user = Table(
    "console_user",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False),
    Column("password_hash", Text),  # argon2id; NULL: links or single sign-on let the user in
    Column("role", Text, nullable=False),
    moment("created_at", now=True),
    Column("created_by", Text, nullable=False),
    Column("disabled_at", TIME),
    CheckConstraint("role IN ('viewer', 'annotator', 'operator', 'owner')", name="role"),
)
Index("console_user_name_idx", func.lower(console_user.c.name), unique=True)

console_session = Table(
    "console_session",
    metadata,
    Column("secret_hash", LargeBinary, primary_key=True),
    Column("user_id", Integer, ForeignKey("console_user.id"), nullable=False),
    Column("method", Text, nullable=False),
    moment("created_at", now=True),
    moment("expires_at"),
    CheckConstraint("method IN ('password', 'link', 'proxy')", name="method"),
)
Index("console_session_user_idx", console_session.c.user_id)

console_link = Table(
    "console_link",
    metadata,
    Column("secret_hash", LargeBinary, primary_key=True),
    Column("user_id", Integer, ForeignKey("console_user.id"), nullable=False),
    Column("purpose", Text, nullable=False),
    moment("created_at", now=True),
    moment("expires_at"),
    CheckConstraint("purpose IN ('log_in', 'password')", name="purpose"),
)
Index("console_link_user_idx", console_link.c.user_id)

console_token = Table(
    "console_token",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("secret_hash", LargeBinary, nullable=False, unique=True),
    Column("user_id", Integer, ForeignKey("console_user.id"), nullable=False),
    Column("role", Text, nullable=False),
    moment("created_at", now=True),
    moment("expires_at"),
    Column("revoked_at", TIME),
    Column("last_used_at", TIME),
    CheckConstraint("role IN ('viewer', 'annotator', 'operator', 'owner')", name="role"),
)
Index("console_token_user_idx", console_token.c.user_id)

# Attempts that failed or are in progress, of the last minutes.
log_in_attempt = Table(
    "log_in_attempt",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("account", LargeBinary, nullable=False),  # SHA-256 of the name that was given
    Column("address", Text, nullable=False),
    moment("attempted_at", now=True),
)
Index("log_in_attempt_time_idx", log_in_attempt.c.attempted_at)

# A decision is written before it is taken, and its outcome afterwards.
audit_log = Table(
    "audit_log",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    moment("decided_at", now=True),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("outcome", Text),  # NULL: the console ended before it knew
    Column("message", Text, nullable=False, server_default=""),
    Column("address", Text, nullable=False),
    CheckConstraint("outcome IN ('done', 'refused')", name="outcome"),
)
