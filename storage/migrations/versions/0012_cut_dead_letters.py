"""Dead letters whose value is too long to be kept whole, and attempts at one that settle those before them.

Only columns that are nullable or have a default, a longer view and one state more: the version before goes on
working on this schema. It knows neither the columns nor the state, which only rows of this version have.
"""

from alembic import op

revision = "0012"
down_revision = "0011"

_TABLE = """
ALTER TABLE dead_letter
    ADD COLUMN raw_full_bytes bigint,
    ADD COLUMN raw_sha256 text,
    ADD COLUMN key_full_bytes bigint,
    ADD COLUMN key_sha256 text,
    ADD COLUMN attempts integer NOT NULL DEFAULT 1,
    DROP CONSTRAINT dead_letter_state_check,
    ADD CONSTRAINT dead_letter_state_check
        CHECK (state IN ('waiting', 'replayed', 'discarded', 'superseded'));
"""

_VIEW = """
CREATE OR REPLACE VIEW dead_letters AS
SELECT s.topic AS kafka_topic, s.partition AS kafka_partition, d.record & 1099511627775 AS kafka_offset,
       d.stage, d.error, d.message, d.raw, d.state, d.received_at,
       d.key, d.state_changed_at, d.state_reason,
       (SELECT o.topic || ':' || o.partition || ':' || (d.replay_of & 1099511627775)
          FROM stream_partition o WHERE o.id = (d.replay_of >> 40)::integer) AS replay_of,
       (SELECT r.topic || ':' || r.partition || ':' || (d.replayed_as & 1099511627775)
          FROM stream_partition r WHERE r.id = (d.replayed_as >> 40)::integer) AS replayed_as,
       d.attempts, d.raw_full_bytes, d.raw_sha256, d.key_full_bytes, d.key_sha256
  FROM dead_letter d
  JOIN stream_partition s ON s.id = (d.record >> 40)::integer;
COMMENT ON COLUMN dead_letters.attempts IS 'How often it was published so far, this attempt included';
COMMENT ON COLUMN dead_letters.raw_full_bytes IS
    'Where raw is only the beginning of the value: how many bytes the whole value has';
COMMENT ON COLUMN dead_letters.raw_sha256 IS
    'Where raw is only the beginning: the SHA-256 of the whole value';
COMMENT ON COLUMN dead_letters.key_full_bytes IS
    'Where key is only the beginning of the key: how many bytes the whole key has';
COMMENT ON COLUMN dead_letters.key_sha256 IS
    'Where key is only the beginning: the SHA-256 of the whole key';
"""


def upgrade() -> None:
    """Add the columns and the state."""
    op.execute(_TABLE)
    op.execute(_VIEW)
