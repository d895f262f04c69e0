"""Erasure: its receipts, the hashes by which an erased review is known again, and which runs have seen it.

Only new tables, an index, and a column with a default: the version before goes on working on this schema. But
its workers do not know what was erased: upgrade them before the first erasure.
"""

from alembic import op

revision = "0025"
down_revision = "0024"

_RECEIPTS = """
CREATE TABLE erasure (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    requested_by text NOT NULL,
    reason text NOT NULL,
    stage text NOT NULL DEFAULT 'requested'
        CHECK (stage IN ('requested', 'traced', 'scrubbed', 'deleted', 'done')),
    progress bigint NOT NULL DEFAULT 0,
    finished_at timestamptz,
    closed_at timestamptz,
    seal text
);
CREATE TABLE erasure_review (
    erasure_id integer NOT NULL REFERENCES erasure (id),
    hash bytea NOT NULL,
    review_id text, -- until it is erased
    PRIMARY KEY (erasure_id, hash)
);
CREATE INDEX erasure_review_hash_idx ON erasure_review (hash);
CREATE TABLE erasure_position (
    erasure_id integer NOT NULL REFERENCES erasure (id),
    stream_partition_id integer NOT NULL REFERENCES stream_partition (id),
    next_offset bigint NOT NULL,
    PRIMARY KEY (erasure_id, stream_partition_id)
);
CREATE TABLE erasure_record (
    erasure_id integer NOT NULL REFERENCES erasure (id),
    record bigint NOT NULL,
    text_sha256 text NOT NULL,
    PRIMARY KEY (erasure_id, record)
);
CREATE TABLE erasure_finding (
    erasure_id integer NOT NULL REFERENCES erasure (id),
    place text NOT NULL,
    rows bigint NOT NULL,
    state text NOT NULL CHECK (state IN ('erased', 'open')),
    detail text NOT NULL DEFAULT '',
    PRIMARY KEY (erasure_id, place)
);
CREATE TABLE erasure_run (
    erasure_id integer NOT NULL REFERENCES erasure (id),
    run_id integer NOT NULL REFERENCES training_run (id),
    PRIMARY KEY (erasure_id, run_id)
);
CREATE TABLE erasure_adapter (
    erasure_id integer NOT NULL REFERENCES erasure (id),
    adapter_id integer NOT NULL REFERENCES adapter (id),
    PRIMARY KEY (erasure_id, adapter_id)
);
ALTER TABLE stream_partition ADD COLUMN erased_until bigint NOT NULL DEFAULT 0;
CREATE INDEX training_item_record_idx ON training_item (record);
CREATE INDEX label_action_record_idx ON label_action (record);
"""


def upgrade() -> None:
    """Make the tables, the column and the indexes."""
    op.execute(_RECEIPTS)
