"""Stream positions, reviews, predictions, dead letters, adapters, labels, and the two public views."""

from alembic import op

revision = "0001"
down_revision = None

_TABLES = """
CREATE TABLE stream_partition (
    id integer GENERATED ALWAYS AS IDENTITY,
    cluster_id text NOT NULL,
    topic text NOT NULL,
    topic_id text NOT NULL,
    partition integer NOT NULL,
    start_offset bigint NOT NULL,
    next_offset bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT stream_partition_pkey PRIMARY KEY (id),
    CONSTRAINT stream_partition_cluster_id_topic_id_partition_key UNIQUE (cluster_id, topic_id, partition),
    CONSTRAINT stream_partition_id_fits_record_check CHECK (id < 8388608),
    CONSTRAINT stream_partition_offsets_check
        CHECK (start_offset <= next_offset AND next_offset < 1099511627776)
) WITH (fillfactor = 50);

CREATE TABLE stream_gap (
    stream_partition_id integer NOT NULL,
    first_offset bigint NOT NULL,
    next_offset bigint NOT NULL,
    found_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT stream_gap_pkey PRIMARY KEY (stream_partition_id, first_offset),
    CONSTRAINT stream_gap_stream_partition_id_fkey
        FOREIGN KEY (stream_partition_id) REFERENCES stream_partition (id)
);

CREATE TABLE review (
    record bigint NOT NULL,
    review_id text NOT NULL,
    text text NOT NULL,
    product text,
    source text,
    stars smallint,
    published_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    CONSTRAINT review_pkey PRIMARY KEY (record)
);
CREATE INDEX review_current_idx ON review (review_id, published_at, record);
CREATE INDEX review_product_idx ON review (product, published_at);

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
    CONSTRAINT prediction_pkey PRIMARY KEY (record, task)
);
CREATE INDEX prediction_label_idx ON prediction (task, label, scored_at);

CREATE TABLE dead_letter (
    record bigint NOT NULL,
    stage text NOT NULL,
    error text NOT NULL,
    message text NOT NULL,
    raw bytea,
    key bytea,
    state text NOT NULL DEFAULT 'waiting',
    received_at timestamptz NOT NULL,
    CONSTRAINT dead_letter_pkey PRIMARY KEY (record),
    CONSTRAINT dead_letter_state_check CHECK (state IN ('waiting', 'replayed', 'discarded'))
);

CREATE TABLE adapter (
    id integer GENERATED ALWAYS AS IDENTITY,
    version text NOT NULL,
    task text NOT NULL,
    labels text[] NOT NULL,
    base_model text NOT NULL,
    base_revision text,
    content_hash text NOT NULL,
    temperature real NOT NULL,
    metrics jsonb NOT NULL,
    parent text,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT adapter_pkey PRIMARY KEY (id),
    CONSTRAINT adapter_version_key UNIQUE (version),
    CONSTRAINT adapter_content_hash_key UNIQUE (content_hash)
);

CREATE TABLE adapter_file (
    adapter_id integer NOT NULL,
    path text NOT NULL,
    sha256 text NOT NULL,
    content bytea NOT NULL,
    CONSTRAINT adapter_file_pkey PRIMARY KEY (adapter_id, path),
    CONSTRAINT adapter_file_adapter_id_fkey FOREIGN KEY (adapter_id) REFERENCES adapter (id) ON DELETE CASCADE
);

CREATE TABLE adapter_activation (
    id integer GENERATED ALWAYS AS IDENTITY,
    task text NOT NULL,
    adapter_id integer NOT NULL,
    replaces integer,
    activated_at timestamptz NOT NULL DEFAULT now(),
    decided_by text NOT NULL,
    reason text NOT NULL,
    CONSTRAINT adapter_activation_pkey PRIMARY KEY (id),
    CONSTRAINT adapter_activation_adapter_id_fkey FOREIGN KEY (adapter_id) REFERENCES adapter (id),
    CONSTRAINT adapter_activation_replaces_fkey FOREIGN KEY (replaces) REFERENCES adapter_activation (id),
    CONSTRAINT adapter_activation_task_replaces_key UNIQUE NULLS NOT DISTINCT (task, replaces)
);

CREATE TABLE label (
    id bigint GENERATED ALWAYS AS IDENTITY,
    record bigint NOT NULL,
    task text NOT NULL,
    label text NOT NULL,
    annotator text NOT NULL,
    source text NOT NULL,
    labelled_at timestamptz NOT NULL,
    CONSTRAINT label_pkey PRIMARY KEY (id)
);
CREATE INDEX label_record_idx ON label (record, task, labelled_at);
"""

_VIEWS = """
CREATE VIEW scored_reviews AS
SELECT r.review_id, r.text, r.product, r.source, r.published_at,
       p.task, p.label, p.confidence, p.probabilities, p.margin, p.entropy, p.truncated,
       a.version AS adapter_version, p.scored_at,
       (SELECT l.label FROM label l
         WHERE l.record = p.record AND l.task = p.task
         ORDER BY l.labelled_at DESC, l.id DESC LIMIT 1) AS human_label,
       s.topic AS kafka_topic, s.partition AS kafka_partition, r.record & 1099511627775 AS kafka_offset
  FROM prediction p
  JOIN review r ON r.record = p.record
  JOIN adapter a ON a.id = p.adapter_id
  JOIN stream_partition s ON s.id = (p.record >> 40)::integer
 WHERE NOT EXISTS (
         SELECT FROM review newer
          WHERE newer.review_id = r.review_id
            AND (newer.published_at, newer.record) > (r.published_at, r.record));
COMMENT ON VIEW scored_reviews IS 'The current version of every review, with one row per task';

CREATE VIEW dead_letters AS
SELECT s.topic AS kafka_topic, s.partition AS kafka_partition, d.record & 1099511627775 AS kafka_offset,
       d.stage, d.error, d.message, d.raw, d.state, d.received_at
  FROM dead_letter d
  JOIN stream_partition s ON s.id = (d.record >> 40)::integer;
COMMENT ON VIEW dead_letters IS 'Records that could not become reviews, with the reason and their raw bytes';
"""


def upgrade() -> None:
    """Make the first schema."""
    op.execute(_TABLES)
    op.execute(_VIEWS)
