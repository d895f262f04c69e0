"""Adapters that the gate rejected are registered as such.

Only a new column with a default: the version before goes on working on this schema.
"""

from alembic import op

revision = "0031"
down_revision = "0030"


def upgrade() -> None:
    """Add the column."""
    op.execute(
        "ALTER TABLE adapter ADD COLUMN state text NOT NULL DEFAULT 'registered' "
        "CHECK (state IN ('registered', 'rejected'))"
    )
