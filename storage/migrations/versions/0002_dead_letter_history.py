"""Dead letters remember who changed their state and why, their replays, and whether Kafka was told of them.

Only columns with defaults and longer views: the version before goes on working on this schema.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

_TABLE = """
ALTER TABLE dead_letter
    ADD COLUMN timestamp_ms bigint,
    ADD COLUMN replay_of bigint,
    ADD COLUMN replayed_as bigint,
    ADD COLUMN state_changed_at timestamptz,
    ADD COLUMN state_reason text,
    ADD COLUMN to_forward boolean NOT NULL DEFAULT false;
CREATE INDEX dead_letter_replay_idx ON dead_letter (replay_of) WHERE replay_of IS NOT NULL;
CREATE INDEX dead_letter_forward_idx ON dead_letter (record) WHERE to_forward;
CREATE INDEX dead_letter_received_idx ON dead_letter (received_at, record);
"""

_VIEW = """
CREATE OR REPLACE VIEW dead_letters AS
SELECT s.topic AS kafka_topic, s.partition AS kafka_partition, d.record & 1099511627775 AS kafka_offset,
       d.stage, d.error, d.message, d.raw, d.state, d.received_at,
       d.key, d.state_changed_at, d.state_reason,
       (SELECT o.topic || ':' || o.partition || ':' || (d.replay_of & 1099511627775)
          FROM stream_partition o WHERE o.id = (d.replay_of >> 40)::integer) AS replay_of,
       (SELECT r.topic || ':' || r.partition || ':' || (d.replayed_as & 1099511627775)
          FROM stream_partition r WHERE r.id = (d.replayed_as >> 40)::integer) AS replayed_as
  FROM dead_letter d
  JOIN stream_partition s ON s.id = (d.record >> 40)::integer;
"""


def upgrade() -> None:
    """Add what replaying, discarding and forwarding need."""
    op.execute(_TABLE)
    op.execute(_VIEW)
