"""What a drift report calls for, an alert or a run of the trainer, and the labels that its numbers stand for.

Only new columns with a default: the version before goes on working, and what it reports is told of as before.
"""

from alembic import op

revision = "0010"
down_revision = "0009"

_CALLS = """
ALTER TABLE drift_report
    ADD COLUMN wants_alert boolean NOT NULL DEFAULT true,
    ADD COLUMN wants_training boolean NOT NULL DEFAULT true;

UPDATE drift_report SET measures = measures || jsonb_build_object('labels', a.labels)
  FROM adapter a WHERE a.version = measures ->> 'adapter';
"""


def upgrade() -> None:
    """Add the columns and the labels."""
    op.execute(_CALLS)
