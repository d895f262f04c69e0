"""An index of dead letters by state, stage and reason, so that a page of them costs what it shows.

Only a new index: the version before goes on working on this schema.
"""

from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Make the index."""
    op.execute(
        "CREATE INDEX dead_letter_reason_idx ON dead_letter (state, stage, error, received_at, record)"
    )
