"""The learning loop: answers and their queue, embeddings, runs, shadows, rescoring, drift reports, leases.

Only new tables and columns, and one column that may be empty now: the version before goes on working on
this schema.
"""

from alembic import op

revision = "0005"
down_revision = "0004"

_LABELS = """
ALTER TABLE label
    ALTER COLUMN label DROP NOT NULL,
    ADD COLUMN received_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN origin bigint;
CREATE UNIQUE INDEX label_origin_idx ON label (origin);
CREATE INDEX label_task_idx ON label (task, received_at);

CREATE TABLE waiting_label (
    id bigint GENERATED ALWAYS AS IDENTITY,
    review_id text NOT NULL,
    task text NOT NULL,
    label text,
    annotator text NOT NULL,
    source text NOT NULL,
    labelled_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    origin bigint,
    CONSTRAINT waiting_label_pkey PRIMARY KEY (id)
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
    state text NOT NULL DEFAULT 'open',
    queued_at timestamptz NOT NULL DEFAULT now(),
    state_changed_at timestamptz NOT NULL DEFAULT now(),
    training_run_id integer,
    holder text,
    lease_token bigint NOT NULL DEFAULT 0,
    lease_expires_at timestamptz,
    CONSTRAINT label_task_pkey PRIMARY KEY (record, task),
    CONSTRAINT label_task_state_check CHECK (state IN ('open', 'done', 'skipped', 'expired'))
);
CREATE INDEX label_task_open_idx ON label_task (task, priority DESC, record) WHERE state = 'open';

CREATE TABLE label_skip (
    record bigint NOT NULL,
    task text NOT NULL,
    annotator text NOT NULL,
    skipped_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT label_skip_pkey PRIMARY KEY (record, task, annotator)
);
"""

_SCORES = """
CREATE TABLE embedding (
    record bigint NOT NULL,
    task text NOT NULL,
    adapter_id integer NOT NULL,
    reason text NOT NULL,
    vector bytea NOT NULL,
    CONSTRAINT embedding_pkey PRIMARY KEY (record, task)
);

CREATE TABLE prediction_history (
    record bigint NOT NULL,
    task text NOT NULL,
    adapter_id integer NOT NULL,
    reason text NOT NULL,
    label text NOT NULL,
    confidence real NOT NULL,
    probabilities real[] NOT NULL,
    margin real NOT NULL,
    entropy real NOT NULL,
    truncated boolean NOT NULL,
    scored_at timestamptz NOT NULL,
    kept_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT prediction_history_pkey PRIMARY KEY (record, task, adapter_id),
    CONSTRAINT prediction_history_reason_check CHECK (reason IN ('replaced', 'shadow'))
);

CREATE TABLE adapter_shadow (
    id integer GENERATED ALWAYS AS IDENTITY,
    task text NOT NULL,
    adapter_id integer NOT NULL,
    share real NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    decided_by text NOT NULL,
    CONSTRAINT adapter_shadow_pkey PRIMARY KEY (id),
    CONSTRAINT adapter_shadow_adapter_id_fkey FOREIGN KEY (adapter_id) REFERENCES adapter (id),
    CONSTRAINT adapter_shadow_share_check CHECK (share > 0 AND share <= 1)
);
CREATE UNIQUE INDEX adapter_shadow_task_idx ON adapter_shadow (task) WHERE ended_at IS NULL;

CREATE TABLE rescore_job (
    id integer GENERATED ALWAYS AS IDENTITY,
    task text NOT NULL,
    adapter_id integer NOT NULL,
    since timestamptz,
    until timestamptz,
    state text NOT NULL DEFAULT 'running',
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    CONSTRAINT rescore_job_pkey PRIMARY KEY (id),
    CONSTRAINT rescore_job_adapter_id_fkey FOREIGN KEY (adapter_id) REFERENCES adapter (id),
    CONSTRAINT rescore_job_state_check CHECK (state IN ('running', 'done', 'cancelled'))
);

CREATE TABLE rescore_range (
    job_id integer NOT NULL,
    first_record bigint NOT NULL,
    next_record bigint NOT NULL,
    done_record bigint NOT NULL,
    replaced bigint NOT NULL DEFAULT 0,
    holder text,
    lease_token bigint NOT NULL DEFAULT 0,
    lease_expires_at timestamptz,
    finished_at timestamptz,
    CONSTRAINT rescore_range_pkey PRIMARY KEY (job_id, first_record),
    CONSTRAINT rescore_range_job_id_fkey FOREIGN KEY (job_id) REFERENCES rescore_job (id)
);
"""

_RUNS = """
ALTER TABLE adapter_activation
    ADD COLUMN restores integer
        CONSTRAINT adapter_activation_restores_fkey REFERENCES adapter_activation (id);

CREATE TABLE lease (
    name text NOT NULL,
    holder text NOT NULL,
    token bigint NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT lease_pkey PRIMARY KEY (name)
);

CREATE TABLE training_run (
    id integer GENERATED ALWAYS AS IDENTITY,
    task text NOT NULL,
    trigger text NOT NULL,
    state text NOT NULL DEFAULT 'running',
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
    activation_id integer,
    CONSTRAINT training_run_pkey PRIMARY KEY (id),
    CONSTRAINT training_run_activation_id_fkey FOREIGN KEY (activation_id) REFERENCES adapter_activation (id),
    CONSTRAINT training_run_state_check
        CHECK (state IN ('running', 'promoted', 'kept', 'waiting', 'failed'))
);
CREATE INDEX training_run_task_idx ON training_run (task, id);

CREATE TABLE training_item (
    run_id integer NOT NULL,
    record bigint NOT NULL,
    slice text NOT NULL,
    label text NOT NULL,
    weight real NOT NULL,
    CONSTRAINT training_item_pkey PRIMARY KEY (run_id, record),
    CONSTRAINT training_item_run_id_fkey FOREIGN KEY (run_id) REFERENCES training_run (id),
    CONSTRAINT training_item_slice_check CHECK (slice IN ('train', 'validation', 'test', 'audit'))
);

CREATE TABLE drift_report (
    id integer GENERATED ALWAYS AS IDENTITY,
    task text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    reference_since timestamptz NOT NULL,
    reference_until timestamptz NOT NULL,
    since timestamptz NOT NULL,
    until timestamptz NOT NULL,
    reviews bigint NOT NULL,
    verdict text NOT NULL,
    measures jsonb NOT NULL,
    attribution jsonb NOT NULL,
    alerted_at timestamptz,
    CONSTRAINT drift_report_pkey PRIMARY KEY (id),
    CONSTRAINT drift_report_verdict_check CHECK (verdict IN ('stable', 'drift', 'unknown')),
    CONSTRAINT drift_report_windows_key UNIQUE (task, reference_since, reference_until, since, until)
);
"""


def upgrade() -> None:
    """Make the tables of the learning loop."""
    op.execute(_LABELS)
    op.execute(_SCORES)
    op.execute(_RUNS)
