"""What many statements ask is a view: the newest version of a review, and the active adapter of a task.

Only new views, and a public view with the same columns: the version before goes on working on this schema.
"""

from alembic import op

revision = "0014"
down_revision = "0013"

# The publisher's time decides; between two versions of one moment Kafka's time of the record does, then their
# arrival. The record comes last and makes the order total: between two partitions it knows no time. The index
# review_current_idx has this order.
_CURRENT_REVIEW = """
CREATE VIEW current_review AS
SELECT r.record, r.review_id, r.text, r.product, r.source, r.stars, r.published_at, r.received_at,
       r.timestamp_ms, r.stars_given, r.stated_published_at
  FROM review r
 WHERE NOT EXISTS (
         SELECT FROM review newer
          WHERE newer.review_id = r.review_id
            AND (newer.published_at, newer.timestamp_ms, newer.received_at, newer.record)
              > (r.published_at, r.timestamp_ms, r.received_at, r.record));
COMMENT ON VIEW current_review IS
    'The newest version of every review: an id published again is a new row, and nothing is marked';

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
       r.stated_published_at
  FROM prediction p
  JOIN current_review r ON r.record = p.record
  JOIN adapter a ON a.id = p.adapter_id
  JOIN stream_partition s ON s.id = (p.record >> 40)::integer;
"""

_ACTIVE_ADAPTER = """
CREATE VIEW active_adapter AS
SELECT v.task, v.id AS activation_id, v.adapter_id, a.version, a.labels, v.activated_at
  FROM adapter_activation v
  JOIN adapter a ON a.id = v.adapter_id
 WHERE NOT EXISTS (SELECT FROM adapter_activation later WHERE later.task = v.task AND later.replaces = v.id);
COMMENT ON VIEW active_adapter IS 'The active adapter of each task: the end of its chain of activations';
"""

_STATES = """
COMMENT ON COLUMN dead_letters.state IS 'waiting, replayed, discarded, or superseded by a later attempt';
"""


def upgrade() -> None:
    """Make the views."""
    for statements in (_CURRENT_REVIEW, _ACTIVE_ADAPTER, _STATES):
        op.execute(statements)
