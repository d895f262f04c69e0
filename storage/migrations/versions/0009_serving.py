"""One rescoring at a time for a task, what it left alone, and what shadows said lately.

Only new columns that may be empty or have a default, and indexes: the version before goes on working.
"""

from alembic import op

revision = "0009"
down_revision = "0006"

_SERVING = """
ALTER TABLE rescore_range
    ADD COLUMN refused bigint NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX rescore_job_running_idx ON rescore_job (task) WHERE state = 'running';

CREATE INDEX prediction_history_shadow_idx ON prediction_history (kept_at) WHERE reason = 'shadow';
"""


def upgrade() -> None:
    """Add the columns and indexes."""
    op.execute(_SERVING)
