"""Annotations of Label Studio, each with the answers that it gave.

Only a new table: the version before goes on working on this schema.
"""

from alembic import op

revision = "0026"
down_revision = "0025"

_TABLE = """
CREATE TABLE label_studio_annotation (
    project text NOT NULL,
    number bigint NOT NULL,
    in_task bigint,
    record bigint,
    annotator text,
    answers jsonb NOT NULL DEFAULT '{}', -- by task: the label, and when the row in `label` says it was given
    changed_at timestamptz,
    is_deleted boolean NOT NULL DEFAULT false, -- kept, so that a late message does not bring it back
    PRIMARY KEY (project, number)
);
CREATE INDEX label_studio_annotation_record_idx ON label_studio_annotation (record, annotator);
CREATE INDEX label_studio_annotation_task_idx ON label_studio_annotation (project, in_task);
"""


def upgrade() -> None:
    """Make the table and its indexes."""
    op.execute(_TABLE)
