"""Withdrawals of reviews, views without what was withdrawn, and why a partition began where it did.

A new table, a column that may be empty, and views with the same columns. A worker of the version before knows
no withdrawals: it makes a dead letter of a record that is one, as before.
"""

from alembic import op

revision = "0020"
down_revision = "0019"

_WITHDRAWAL = """
CREATE TABLE withdrawal (
    record bigint PRIMARY KEY,
    review_id text NOT NULL,
    kind text NOT NULL, -- how it was said: by a message, or by a key without a value
    received_at timestamptz NOT NULL,
    timestamp_ms bigint NOT NULL, -- Kafka's time, or that of receipt where it has none
    CONSTRAINT withdrawal_kind_check CHECK (kind IN ('delete', 'tombstone'))
);
CREATE INDEX withdrawal_review_idx ON withdrawal (review_id, timestamp_ms, received_at, record);
"""

_START = "ALTER TABLE stream_partition ADD COLUMN start_reason text"

# A withdrawal says nothing of times of publication: it takes back what Kafka had before it. The newest
# version is found among all of them, so that an older one never takes the place of one that was withdrawn.
_VIEWS = """
CREATE VIEW published_review AS
SELECT r.record, r.review_id, r.text, r.product, r.source, r.stars, r.published_at, r.received_at,
       r.timestamp_ms, r.stars_given, r.stated_published_at
  FROM review r
 WHERE NOT EXISTS (
         SELECT FROM withdrawal w
          WHERE w.review_id = r.review_id
            AND (w.timestamp_ms, w.received_at, w.record) > (r.timestamp_ms, r.received_at, r.record));
COMMENT ON VIEW published_review IS
    'Every version of every review, but those that their publisher withdrew later';

CREATE OR REPLACE VIEW current_review AS
SELECT r.record, r.review_id, r.text, r.product, r.source, r.stars, r.published_at, r.received_at,
       r.timestamp_ms, r.stars_given, r.stated_published_at
  FROM published_review r
 WHERE NOT EXISTS (
         SELECT FROM review newer
          WHERE newer.review_id = r.review_id
            AND (newer.published_at, newer.timestamp_ms, newer.received_at, newer.record)
              > (r.published_at, r.timestamp_ms, r.received_at, r.record));
COMMENT ON VIEW current_review IS
    'The newest version of every review that was not withdrawn: an id published again is a new row, and
     nothing is marked';
"""


def upgrade() -> None:
    """Make the table, the column and the views."""
    for statements in (_WITHDRAWAL, _START, _VIEWS):
        op.execute(statements)
