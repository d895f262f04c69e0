"""Versions of one moment are told apart by Kafka's time; half stars; what the public views say of themselves.

Only columns that may be empty or have a default, and columns at the end of a view: the version before goes on
working on this schema. Rows that it writes count as older than any other of their moment, as Kafka's time of
them is not known. The index takes its place under its own name; while it is built, for some seconds per
million reviews, workers wait, and so does everybody who reads reviews.
"""

from alembic import op

revision = "0011"
down_revision = "0010"

_REVIEW = """
ALTER TABLE review
    ADD COLUMN timestamp_ms bigint NOT NULL DEFAULT -1,
    ADD COLUMN stars_given double precision,
    ADD COLUMN stated_published_at timestamptz;
DROP INDEX review_current_idx;
CREATE INDEX review_current_idx ON review (review_id, published_at, timestamp_ms, received_at, record);
"""

# What people agree on, and the probabilities by name, cost nothing where nobody asks for them.
_VIEW = """
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
  JOIN review r ON r.record = p.record
  JOIN adapter a ON a.id = p.adapter_id
  JOIN stream_partition s ON s.id = (p.record >> 40)::integer
 WHERE NOT EXISTS (
         SELECT FROM review newer
          WHERE newer.review_id = r.review_id
            AND (newer.published_at, newer.timestamp_ms, newer.received_at, newer.record)
              > (r.published_at, r.timestamp_ms, r.received_at, r.record));
"""

_COMMENTS = {
    "scored_reviews": {
        "review_id": "The publisher''s name of the review",
        "text": "The text of the current version",
        "product": "What is reviewed; NULL where the publisher did not say",
        "source": "Where the review comes from; NULL where the publisher did not say",
        "published_at": "When it was published; Kafka''s time of the record where the publisher did not say",
        "task": "What was asked, such as sentiment",
        "label": "The most probable label",
        "confidence": "The calibrated probability of the label, in [0, 1]",
        "probabilities": "Calibrated probabilities in the adapter''s order of labels; they sum to 1",
        "margin": "The greatest probability minus the second greatest, in [0, 1]",
        "entropy": "Shannon entropy of the probabilities in nats",
        "truncated": "Whether the model saw only a part of the text",
        "adapter_version": "The adapter that scored it",
        "scored_at": "When it was scored",
        "human_label": "What people agree on; NULL where nobody answered, nobody is sure, or they disagree",
        "kafka_topic": "The topic of the record",
        "kafka_partition": "Its partition",
        "kafka_offset": "Its offset in the partition",
        "adapter_id": "The adapter''s number in the table adapter: the fastest way to ask for one adapter",
        "stars": "The author''s own rating, from 1 to 5; NULL where there is none",
        "label_probabilities": "The probabilities by label, as JSON: label_probabilities ->> ''negative''",
        "stated_published_at": "What the publisher said where that is later than Kafka had the record: then "
        "published_at is Kafka''s time; NULL elsewhere",
    },
    "dead_letters": {
        "kafka_topic": "The topic of the record",
        "kafka_partition": "Its partition",
        "kafka_offset": "Its offset in the partition",
        "stage": "Where it failed: parse, score, store or label",
        "error": "The reason, by a short name for counting",
        "message": "What is wrong, in a sentence that does not quote the record",
        "raw": "The value as it was delivered; NULL for a tombstone",
        "state": "waiting, replayed or discarded",
        "received_at": "When a worker had it in hand",
        "key": "The key as it was delivered",
        "state_changed_at": "When it was settled; NULL while it waits",
        "state_reason": "Why it was discarded",
        "replay_of": "The dead letter that it was another attempt at, as TOPIC:PARTITION:OFFSET",
        "replayed_as": "The record that was accepted in its place, as TOPIC:PARTITION:OFFSET",
    },
}


def upgrade() -> None:
    """Add the columns, exchange the index, and describe the views."""
    op.execute(_REVIEW)
    op.execute(_VIEW)
    for view, comments in _COMMENTS.items():
        for column, comment in comments.items():
            op.execute(f"COMMENT ON COLUMN {view}.{column} IS '{comment}'")
