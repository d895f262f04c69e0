"""The first schema: the stream's tables, adapters, labels, the learning loop, and the public views.

It stands for the thirteen migrations of the time before the first release, and bears the number of the last
one: a database that they made is where this leaves an empty one, and goes on from here.
"""

from alembic import op

revision = "0013"
down_revision = None

# The hot tables have no foreign keys: `storage/schema/` says why, and what the columns mean.
_STREAM = """
CREATE TABLE stream_partition (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cluster_id text NOT NULL,
    topic text NOT NULL,
    topic_id text NOT NULL,
    partition integer NOT NULL,
    start_offset bigint NOT NULL,
    next_offset bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT stream_partition_cluster_id_topic_id_partition_key UNIQUE (cluster_id, topic_id, partition),
    CONSTRAINT stream_partition_id_fits_record_check CHECK (id < 8388608),
    CONSTRAINT stream_partition_offsets_check
        CHECK (start_offset <= next_offset AND next_offset < 1099511627776)
) WITH (fillfactor = 50);

CREATE TABLE stream_gap (
    stream_partition_id integer NOT NULL REFERENCES stream_partition,
    first_offset bigint NOT NULL,
    next_offset bigint NOT NULL,
    found_at timestamptz NOT NULL DEFAULT now(),
    reason text NOT NULL DEFAULT 'retention',
    PRIMARY KEY (stream_partition_id, first_offset)
);

CREATE TABLE review (
    record bigint PRIMARY KEY,
    review_id text NOT NULL,
    text text NOT NULL,
    product text,
    source text,
    stars smallint,
    published_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    timestamp_ms bigint NOT NULL DEFAULT -1,
    stars_given double precision,
    stated_published_at timestamptz
);
CREATE INDEX review_current_idx ON review (review_id, published_at, timestamp_ms, received_at, record);
CREATE INDEX review_product_idx ON review (product);
CREATE INDEX review_source_idx ON review (source);

CREATE TABLE prediction (
    record bigint NOT NULL,
    task text NOT NULL,
    adapter_id integer NOT NULL,
    label text NOT NULL,
    confidence real NOT NULL,
    probabilities real[] NOT NULL,
    margin real NOT NULL,
    entropy real NOT NULL,
    truncated boolean NOT NULL,
    scored_at timestamptz NOT NULL,
    PRIMARY KEY (record, task)
);
CREATE INDEX prediction_scored_idx ON prediction (scored_at);
CREATE INDEX prediction_adapter_idx ON prediction (adapter_id, scored_at);
CREATE INDEX prediction_label_idx ON prediction (label, scored_at, adapter_id);
CREATE INDEX prediction_confidence_idx ON prediction (confidence);
CREATE INDEX prediction_uncertain_idx ON prediction (scored_at, adapter_id, confidence) WHERE margin < 0.2;
-- Without it the planner expects 200 partitions, hence next to no rows, and scans for them.
CREATE STATISTICS prediction_partition_stats ON ((record >> 40)::integer) FROM prediction;

CREATE TABLE dead_letter (
    record bigint PRIMARY KEY,
    stage text NOT NULL,
    error text NOT NULL,
    message text NOT NULL,
    raw bytea,
    key bytea,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'replayed', 'discarded', 'superseded')),
    received_at timestamptz NOT NULL,
    timestamp_ms bigint,
    replay_of bigint,
    replayed_as bigint,
    state_changed_at timestamptz,
    state_reason text,
    to_forward boolean NOT NULL DEFAULT false,
    raw_full_bytes bigint,
    raw_sha256 text,
    key_full_bytes bigint,
    key_sha256 text,
    attempts integer NOT NULL DEFAULT 1
);
CREATE INDEX dead_letter_replay_idx ON dead_letter (replay_of) WHERE replay_of IS NOT NULL;
CREATE INDEX dead_letter_forward_idx ON dead_letter (record) WHERE to_forward;
CREATE INDEX dead_letter_received_idx ON dead_letter (received_at, record);
"""

_ADAPTERS = """
CREATE TABLE adapter (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    version text NOT NULL UNIQUE,
    task text NOT NULL,
    labels text[] NOT NULL,
    base_model text NOT NULL,
    base_revision text,
    content_hash text NOT NULL UNIQUE,
    temperature real NOT NULL,
    metrics jsonb NOT NULL,
    parent text,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE adapter_file (
    adapter_id integer NOT NULL REFERENCES adapter ON DELETE CASCADE,
    path text NOT NULL,
    sha256 text NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (adapter_id, path)
);

CREATE TABLE adapter_activation (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task text NOT NULL,
    adapter_id integer NOT NULL REFERENCES adapter,
    replaces integer REFERENCES adapter_activation,
    activated_at timestamptz NOT NULL DEFAULT now(),
    decided_by text NOT NULL,
    reason text NOT NULL,
    restores integer REFERENCES adapter_activation,
    CONSTRAINT adapter_activation_task_replaces_key UNIQUE NULLS NOT DISTINCT (task, replaces)
);

CREATE TABLE adapter_shadow (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task text NOT NULL,
    adapter_id integer NOT NULL REFERENCES adapter,
    share real NOT NULL CHECK (share > 0 AND share <= 1),
    started_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    decided_by text NOT NULL
);
CREATE UNIQUE INDEX adapter_shadow_task_idx ON adapter_shadow (task) WHERE ended_at IS NULL;

CREATE TABLE prediction_history (
    record bigint NOT NULL,
    task text NOT NULL,
    adapter_id integer NOT NULL,
    reason text NOT NULL CHECK (reason IN ('replaced', 'shadow')),
    label text NOT NULL,
    confidence real NOT NULL,
    probabilities real[] NOT NULL,
    margin real NOT NULL,
    entropy real NOT NULL,
    truncated boolean NOT NULL,
    scored_at timestamptz NOT NULL,
    kept_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (record, task, adapter_id)
);
CREATE INDEX prediction_history_shadow_idx ON prediction_history (kept_at) WHERE reason = 'shadow';

CREATE TABLE rescore_job (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task text NOT NULL,
    adapter_id integer NOT NULL REFERENCES adapter,
    since timestamptz,
    until timestamptz,
    state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done', 'cancelled')),
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
CREATE UNIQUE INDEX rescore_job_running_idx ON rescore_job (task) WHERE state = 'running';

CREATE TABLE rescore_range (
    job_id integer NOT NULL REFERENCES rescore_job,
    first_record bigint NOT NULL,
    next_record bigint NOT NULL,
    done_record bigint NOT NULL,
    replaced bigint NOT NULL DEFAULT 0,
    holder text,
    lease_token bigint NOT NULL DEFAULT 0,
    lease_expires_at timestamptz,
    finished_at timestamptz,
    refused bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (job_id, first_record)
);
"""

_LABELS = """
CREATE TABLE label (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    record bigint NOT NULL,
    task text NOT NULL,
    label text,
    annotator text NOT NULL,
    source text NOT NULL,
    labelled_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    origin bigint
);
CREATE INDEX label_record_idx ON label (record, task, labelled_at);
CREATE UNIQUE INDEX label_origin_idx ON label (origin);
CREATE INDEX label_task_idx ON label (task, received_at);

CREATE TABLE waiting_label (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    review_id text NOT NULL,
    task text NOT NULL,
    label text,
    annotator text NOT NULL,
    source text NOT NULL,
    labelled_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    origin bigint
);
CREATE UNIQUE INDEX waiting_label_origin_idx ON waiting_label (origin);
CREATE INDEX waiting_label_review_idx ON waiting_label (review_id);

CREATE TABLE label_task (
    record bigint NOT NULL,
    task text NOT NULL,
    reason text NOT NULL,
    strategy text NOT NULL,
    priority real NOT NULL,
    wanted_answers smallint NOT NULL DEFAULT 1,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'done', 'skipped', 'expired')),
    queued_at timestamptz NOT NULL DEFAULT now(),
    state_changed_at timestamptz NOT NULL DEFAULT now(),
    training_run_id integer,
    holder text,
    lease_token bigint NOT NULL DEFAULT 0,
    lease_expires_at timestamptz,
    PRIMARY KEY (record, task)
);
CREATE INDEX label_task_open_idx ON label_task (task, priority DESC, record) WHERE state = 'open';

CREATE TABLE label_skip (
    record bigint NOT NULL,
    task text NOT NULL,
    annotator text NOT NULL,
    skipped_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (record, task, annotator)
);
"""

_LEARNING = """
CREATE TABLE embedding (
    record bigint NOT NULL,
    task text NOT NULL,
    adapter_id integer NOT NULL,
    reason text NOT NULL,
    vector bytea NOT NULL,
    PRIMARY KEY (record, task)
);

CREATE TABLE lease (
    name text PRIMARY KEY,
    holder text NOT NULL,
    token bigint NOT NULL,
    expires_at timestamptz NOT NULL
);

CREATE TABLE training_run (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task text NOT NULL,
    trigger text NOT NULL,
    state text NOT NULL DEFAULT 'running'
        CHECK (state IN ('running', 'promoted', 'kept', 'waiting', 'failed')),
    stage text NOT NULL DEFAULT 'start',
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    lease_token bigint NOT NULL,
    config jsonb NOT NULL,
    manifest jsonb,
    metrics jsonb,
    verdict jsonb,
    error text,
    active_adapter text,
    candidate_adapter text,
    activation_id integer REFERENCES adapter_activation
);
CREATE INDEX training_run_task_idx ON training_run (task, id);

CREATE TABLE training_item (
    run_id integer NOT NULL REFERENCES training_run,
    record bigint NOT NULL,
    slice text NOT NULL CHECK (slice IN ('train', 'validation', 'test', 'audit')),
    label text NOT NULL,
    weight real NOT NULL,
    PRIMARY KEY (run_id, record)
);

CREATE TABLE drift_report (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    reference_since timestamptz NOT NULL,
    reference_until timestamptz NOT NULL,
    since timestamptz NOT NULL,
    until timestamptz NOT NULL,
    reviews bigint NOT NULL,
    verdict text NOT NULL CHECK (verdict IN ('stable', 'drift', 'unknown')),
    measures jsonb NOT NULL,
    attribution jsonb NOT NULL,
    alerted_at timestamptz,
    wants_alert boolean NOT NULL DEFAULT true,
    wants_training boolean NOT NULL DEFAULT true,
    CONSTRAINT drift_report_windows_key UNIQUE (task, reference_since, reference_until, since, until)
);
"""

# A row of the source "undo" takes its annotator's answer back: then there is none.
# Conditions on record and task reach the index through every level, as each level groups by both.
_CONSENSUS = """
CREATE VIEW label_consensus AS
WITH answer AS (
    SELECT DISTINCT ON (record, task, annotator) record, task, annotator, label, labelled_at, source
      FROM label
     ORDER BY record, task, annotator, labelled_at DESC, id DESC
), vote AS (
    SELECT record, task, label, count(*) AS answers, max(labelled_at) AS labelled_at
      FROM answer
     WHERE source <> 'undo'
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

# Few of very many reviews are labelled: whether one is costs much less than what people agree on. That, and
# the probabilities by name, cost nothing where nobody asks for them.
_PUBLIC_VIEWS = """
CREATE VIEW scored_reviews AS
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
COMMENT ON VIEW scored_reviews IS 'The current version of every review, with one row per task';

CREATE VIEW dead_letters AS
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
COMMENT ON VIEW dead_letters IS 'Records that could not become reviews, with the reason and their raw bytes';
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
        "attempts": "How often it was published so far, this attempt included",
        "raw_full_bytes": "Where raw is only the beginning of the value: how many bytes the whole value has",
        "raw_sha256": "Where raw is only the beginning: the SHA-256 of the whole value",
        "key_full_bytes": "Where key is only the beginning of the key: how many bytes the whole key has",
        "key_sha256": "Where key is only the beginning: the SHA-256 of the whole key",
    },
}


def upgrade() -> None:
    """Make the schema."""
    for statements in (_STREAM, _ADAPTERS, _LABELS, _LEARNING, _CONSENSUS, _PUBLIC_VIEWS):
        op.execute(statements)
    for view, comments in _COMMENTS.items():
        for column, comment in comments.items():
            op.execute(f"COMMENT ON COLUMN {view}.{column} IS '{comment}'")
