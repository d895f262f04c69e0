"""Indexes by which aged rows are found; all on tables that the stream does not write, or writes seldom.

Only new indexes: the version before goes on working on this schema.
"""

from alembic import op

revision = "0021"
down_revision = "0020"

_INDEXES = """
CREATE INDEX prediction_history_kept_idx ON prediction_history (kept_at);
CREATE INDEX label_task_finished_idx ON label_task (state_changed_at) WHERE state <> 'open';
CREATE INDEX label_action_time_idx ON label_action (acted_at);
"""


def upgrade() -> None:
    """Make the indexes."""
    op.execute(_INDEXES)
