"""Labelling in a browser: actions that are done once however often they are sent, and guidelines.

Only new tables and indexes: the version before goes on working on this schema.
"""

from alembic import op

revision = "0018"
down_revision = "0017"

_TABLES = """
CREATE TABLE label_action (
    id uuid PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('answer', 'skip', 'undo')),
    record bigint NOT NULL,
    task text NOT NULL,
    annotator text NOT NULL,
    label text,
    seconds real,
    undoes uuid,
    acted_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX label_action_annotator_idx ON label_action (annotator, task, acted_at);
CREATE UNIQUE INDEX label_action_undoes_idx ON label_action (annotator, undoes) WHERE undoes IS NOT NULL;

CREATE TABLE guideline (
    task text NOT NULL,
    version integer NOT NULL,
    text text NOT NULL,
    written_by text NOT NULL,
    written_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (task, version)
);

CREATE INDEX label_annotator_idx ON label (annotator, task, received_at);
CREATE INDEX label_task_holder_idx ON label_task (holder) WHERE holder IS NOT NULL;
"""


def upgrade() -> None:
    """Make tables and indexes."""
    op.execute(_TABLES)
