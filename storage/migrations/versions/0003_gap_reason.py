"""Gaps remember why: lost to retention, or skipped by hand.

Only a column with a default: the version before goes on working on this schema.
"""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the reason."""
    op.execute("ALTER TABLE stream_gap ADD COLUMN reason text NOT NULL DEFAULT 'retention'")
