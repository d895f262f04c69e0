"""The consensus of several annotators, defined once, and the view shows it beside the model's label.

Only one new view and another definition of a column: the version before goes on working on this schema.
"""

from alembic import op

revision = "0006"
down_revision = "0005"

# Conditions on record and task reach the index through every level, as each level groups by both.
_CONSENSUS = """
CREATE VIEW label_consensus AS
WITH answer AS (
    SELECT DISTINCT ON (record, task, annotator) record, task, annotator, label, labelled_at
      FROM label
     ORDER BY record, task, annotator, labelled_at DESC, id DESC
), vote AS (
    SELECT record, task, label, count(*) AS answers, max(labelled_at) AS labelled_at
      FROM answer
     GROUP BY record, task, label
), tally AS (
    SELECT record, task,
           array_agg(label ORDER BY answers DESC, label) FILTER (WHERE label IS NOT NULL) AS labels,
           array_agg(answers ORDER BY answers DESC, label) FILTER (WHERE label IS NOT NULL) AS votes,
           sum(answers)::bigint AS answers,
           max(labelled_at) AS labelled_at
      FROM vote
     GROUP BY record, task
)
SELECT record, task,
       CASE WHEN votes[1] > coalesce(votes[2], 0) THEN labels[1] END AS label,
       coalesce(votes[1], 0) AS agreeing,
       answers,
       labelled_at
  FROM tally;
COMMENT ON VIEW label_consensus IS
    'What the annotators of a record agree on: the latest answer of each counts once, unsure does not vote,
     the most votes win, and a tie is no consensus';
"""

_VIEW = """
CREATE OR REPLACE VIEW scored_reviews AS
SELECT r.review_id, r.text, r.product, r.source, r.published_at,
       p.task, p.label, p.confidence, p.probabilities, p.margin, p.entropy, p.truncated,
       a.version AS adapter_version, p.scored_at,
       (SELECT c.label FROM label_consensus c WHERE c.record = p.record AND c.task = p.task) AS human_label,
       s.topic AS kafka_topic, s.partition AS kafka_partition, r.record & 1099511627775 AS kafka_offset,
       p.adapter_id
  FROM prediction p
  JOIN review r ON r.record = p.record
  JOIN adapter a ON a.id = p.adapter_id
  JOIN stream_partition s ON s.id = (p.record >> 40)::integer
 WHERE NOT EXISTS (
         SELECT FROM review newer
          WHERE newer.review_id = r.review_id
            AND (newer.published_at, newer.record) > (r.published_at, r.record));
"""


def upgrade() -> None:
    """Make the view of the consensus, and let the public view show it."""
    op.execute(_CONSENSUS)
    op.execute(_VIEW)
