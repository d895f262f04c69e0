"""Which runs, adapters and activations MLflow has had.

Only a new table: the version before goes on working on this schema.
"""

from alembic import op

revision = "0027"
down_revision = "0026"

_TABLE = """
CREATE TABLE mlflow_mirror (
    server text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('run', 'adapter', 'activation')),
    subject text NOT NULL,
    mlflow_id text NOT NULL,
    mirrored_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (server, kind, subject)
);
"""


def upgrade() -> None:
    """Make the table."""
    op.execute(_TABLE)
