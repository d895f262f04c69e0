"""How far the fits of a training run are, for who looks at a run that is at work.

Only a new column: the version before goes on working on this schema.
"""

from alembic import op

revision = "0030"
down_revision = "0029"


def upgrade() -> None:
    """Add the column."""
    op.execute("ALTER TABLE training_run ADD COLUMN progress jsonb")
