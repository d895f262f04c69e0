"""The labels of a task as versions: renamed, merged, split and added ones, and who declared it.

Only a new table, which is empty until somebody changes labels: the version before goes on working on this
schema.
"""

from alembic import op

revision = "0029"
down_revision = "0028"

_TABLE = """
CREATE TABLE label_set (
    task text NOT NULL,
    version integer NOT NULL,
    labels text[] NOT NULL,
    kind text NOT NULL CHECK (kind IN ('first', 'rename', 'merge', 'split', 'add')),
    sources text[] NOT NULL,
    targets text[] NOT NULL,
    declared_by text NOT NULL,
    declared_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (task, version)
);
"""


def upgrade() -> None:
    """Make the table."""
    op.execute(_TABLE)
