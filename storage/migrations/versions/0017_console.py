"""Tables of the console: accounts, sessions, one-time links, tokens, log-in attempts and the audit log.

Only new tables: the version before goes on working on this schema.
"""

from alembic import op

revision = "0017"
down_revision = "0016"

_ACCOUNTS = """
CREATE TABLE console_user (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    password_hash text,
    role text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    disabled_at timestamptz,
    CONSTRAINT console_user_role_check CHECK (role IN ('viewer', 'annotator', 'operator', 'owner'))
);
CREATE UNIQUE INDEX console_user_name_idx ON console_user (lower(name));

CREATE TABLE console_session (
    secret_hash bytea PRIMARY KEY,
    user_id integer NOT NULL REFERENCES console_user (id),
    method text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    CONSTRAINT console_session_method_check CHECK (method IN ('password', 'link', 'proxy'))
);
CREATE INDEX console_session_user_idx ON console_session (user_id);

CREATE TABLE console_link (
    secret_hash bytea PRIMARY KEY,
    user_id integer NOT NULL REFERENCES console_user (id),
    purpose text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    CONSTRAINT console_link_purpose_check CHECK (purpose IN ('log_in', 'password'))
);
CREATE INDEX console_link_user_idx ON console_link (user_id);

CREATE TABLE console_token (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    secret_hash bytea NOT NULL UNIQUE,
    user_id integer NOT NULL REFERENCES console_user (id),
    role text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    last_used_at timestamptz,
    CONSTRAINT console_token_role_check CHECK (role IN ('viewer', 'annotator', 'operator', 'owner'))
);
CREATE INDEX console_token_user_idx ON console_token (user_id);
"""

_LOGS = """
CREATE TABLE log_in_attempt (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account bytea NOT NULL,
    address text NOT NULL,
    attempted_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX log_in_attempt_time_idx ON log_in_attempt (attempted_at);

CREATE TABLE audit_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    decided_at timestamptz NOT NULL DEFAULT now(),
    actor text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    reason text NOT NULL,
    outcome text,
    message text NOT NULL DEFAULT '',
    address text NOT NULL,
    CONSTRAINT audit_log_outcome_check CHECK (outcome IN ('done', 'refused'))
);
"""


def upgrade() -> None:
    """Make the tables."""
    for statements in (_ACCOUNTS, _LOGS):
        op.execute(statements)
