"""Waiting labels are looked for at a time of their own; indexes for what was queued, closed or lost last.

A column with a default, and indexes on tables that grow by what people do: the stream writes to none of them
for a review.
"""

from alembic import op

revision = "0023"
down_revision = "0022"

_WAITING = """
ALTER TABLE waiting_label ADD COLUMN look_at timestamptz NOT NULL DEFAULT now();
CREATE INDEX waiting_label_look_idx ON waiting_label (look_at);
"""
_LATEST = """
CREATE INDEX label_task_queued_idx ON label_task (task, queued_at);
CREATE INDEX label_task_changed_idx ON label_task (task, state_changed_at);
CREATE INDEX stream_gap_found_idx ON stream_gap (found_at);
CREATE INDEX rescore_range_left_idx ON rescore_range (job_id, first_record) WHERE finished_at IS NULL;
"""


def upgrade() -> None:
    """Add the column and the indexes."""
    for statements in (_WAITING, _LATEST):
        op.execute(statements)
