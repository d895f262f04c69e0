"""Requests for training runs, reasons of shadow trials, and the predictions of one adapter by record.

The index is for comparing two adapters. The table grows by shadow trials and rescoring alone, so that writing
to it slows no live review.
"""

from alembic import op

revision = "0019"
down_revision = "0018"

_REQUESTS = """
CREATE TABLE run_request (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task text NOT NULL,
    requested_by text NOT NULL,
    reason text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL, -- until then it is taken, or once taken becomes a run
    taken_at timestamptz,
    taken_by text,
    run_id integer UNIQUE REFERENCES training_run (id),
    closed_at timestamptz, -- when it became a run, failed, or made way for the next request
    error text
);
CREATE UNIQUE INDEX run_request_open_idx ON run_request (task) WHERE closed_at IS NULL;
CREATE INDEX run_request_task_idx ON run_request (task, id);
"""

_SHADOWS = """
ALTER TABLE adapter_shadow ADD COLUMN reason text NOT NULL DEFAULT '',
    ADD COLUMN ended_by text, ADD COLUMN end_reason text;
CREATE INDEX prediction_history_adapter_idx ON prediction_history (adapter_id, task, record);
"""


def upgrade() -> None:
    """Add the table, the columns and the index."""
    for statements in (_REQUESTS, _SHADOWS):
        op.execute(statements)
