"""Pages of reviews that continue where the last one ended, and the audited items by time.

A column at the end of a public view, and an index on a table that the stream does not write.
"""

from alembic import op

revision = "0016"
down_revision = "0015"

# Thousands of reviews are scored in one moment; with the record their order is total.
_SCORED_REVIEWS = """
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
       p.record
  FROM prediction p
  JOIN current_review r ON r.record = p.record
  JOIN adapter a ON a.id = p.adapter_id
  JOIN stream_partition s ON s.id = (p.record >> 40)::integer;
COMMENT ON COLUMN scored_reviews.record IS
    'The number of the Kafka record in this database: one number for partition and offset';
"""
_AUDITED = """
CREATE INDEX label_task_audit_idx ON label_task (task, state_changed_at) WHERE reason = 'audit';
"""


def upgrade() -> None:
    """Extend the view, and make the index."""
    for statements in (_SCORED_REVIEWS, _AUDITED):
        op.execute(statements)
