"""Attributes of reviews, and the headers of dead letters.

Two columns that may be NULL, an index, and columns at the end of the views. The index holds only reviews with
attributes, so that others cost nothing; a worker of the version before writes neither column.
"""

from alembic import op

revision = "0024"
down_revision = "0023"

_COLUMNS = """
ALTER TABLE review ADD COLUMN attributes jsonb;
ALTER TABLE dead_letter ADD COLUMN headers jsonb;
CREATE INDEX review_attributes_idx ON review USING gin (attributes jsonb_path_ops)
 WHERE attributes IS NOT NULL;
"""

_VIEWS = """
CREATE OR REPLACE VIEW published_review AS
SELECT r.record, r.review_id, r.text, r.product, r.source, r.stars, r.published_at, r.received_at,
       r.timestamp_ms, r.stars_given, r.stated_published_at, r.attributes
  FROM review r
 WHERE NOT EXISTS (
         SELECT FROM withdrawal w
          WHERE w.review_id = r.review_id
            AND (w.timestamp_ms, w.received_at, w.record) > (r.timestamp_ms, r.received_at, r.record));

CREATE OR REPLACE VIEW current_review AS
SELECT r.record, r.review_id, r.text, r.product, r.source, r.stars, r.published_at, r.received_at,
       r.timestamp_ms, r.stars_given, r.stated_published_at, r.attributes
  FROM published_review r
 WHERE NOT EXISTS (
         SELECT FROM review newer
          WHERE newer.review_id = r.review_id
            AND (newer.published_at, newer.timestamp_ms, newer.received_at, newer.record)
              > (r.published_at, r.timestamp_ms, r.received_at, r.record));

CREATE OR REPLACE VIEW scored_reviews AS
SELECT r.review_id, r.text, r.product, r.source, r.published_at,
       p.task, p.label, p.confidence, p.probabilities, p.margin, p.entropy, p.truncated,
       a.version AS adapter_version, p.scored_at,
       CASE WHEN EXISTS (SELECT FROM label l WHERE l.record = p.record AND l.task = p.task)
            THEN (SELECT c.label FROM label_consensus c WHERE c.record = p.record AND c.task = p.task)
       END AS human_label,
       s.topic AS kafka_topic, s.partition AS kafka_partition, r.record & 1099511627775 AS kafka_offset,
       p.adapter_id,
       coalesce(r.stars_given, r.stars::double precision) AS stars,
       (SELECT jsonb_object_agg(each.label, each.probability)
          FROM unnest(a.labels, p.probabilities) AS each (label, probability)) AS label_probabilities,
       r.stated_published_at,
       p.record,
       r.attributes
  FROM prediction p
  JOIN current_review r ON r.record = p.record
  JOIN adapter a ON a.id = p.adapter_id
  JOIN stream_partition s ON s.id = (p.record >> 40)::integer;
COMMENT ON COLUMN scored_reviews.attributes IS
    'Further fields that the review''s source names, as JSON: attributes ->> ''market''; NULL without any';

CREATE OR REPLACE VIEW dead_letters AS
SELECT s.topic AS kafka_topic, s.partition AS kafka_partition, d.record & 1099511627775 AS kafka_offset,
       d.stage, d.error, d.message, d.raw, d.state, d.received_at,
       d.key, d.state_changed_at, d.state_reason,
       (SELECT o.topic || ':' || o.partition || ':' || (d.replay_of & 1099511627775)
          FROM stream_partition o WHERE o.id = (d.replay_of >> 40)::integer) AS replay_of,
       (SELECT r.topic || ':' || r.partition || ':' || (d.replayed_as & 1099511627775)
          FROM stream_partition r WHERE r.id = (d.replayed_as >> 40)::integer) AS replayed_as,
       d.attempts, d.raw_full_bytes, d.raw_sha256, d.key_full_bytes, d.key_sha256, d.headers
  FROM dead_letter d
  JOIN stream_partition s ON s.id = (d.record >> 40)::integer;
COMMENT ON COLUMN dead_letters.stage IS 'Where it failed: parse, decode, map, score, store or label';
COMMENT ON COLUMN dead_letters.headers IS
    'The headers as they were delivered, in order; Base64 where a value is no text, NULL without any';
"""


def upgrade() -> None:
    """Add the columns and the index, and extend the views."""
    for statements in (_COLUMNS, _VIEWS):
        op.execute(statements)
