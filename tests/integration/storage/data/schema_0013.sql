-- The schema at revision 0013, as pg_dump wrote it from the thirteen migrations before the first release,
-- without its settings, and a few rows.

CREATE TABLE public.adapter (
    id integer NOT NULL,
    version text NOT NULL,
    task text NOT NULL,
    labels text[] NOT NULL,
    base_model text NOT NULL,
    base_revision text,
    content_hash text NOT NULL,
    temperature real NOT NULL,
    metrics jsonb NOT NULL,
    parent text,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.adapter_activation (
    id integer NOT NULL,
    task text NOT NULL,
    adapter_id integer NOT NULL,
    replaces integer,
    activated_at timestamp with time zone DEFAULT now() NOT NULL,
    decided_by text NOT NULL,
    reason text NOT NULL,
    restores integer
);

ALTER TABLE public.adapter_activation ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY;

CREATE TABLE public.adapter_file (
    adapter_id integer NOT NULL,
    path text NOT NULL,
    sha256 text NOT NULL,
    content bytea NOT NULL
);

ALTER TABLE public.adapter ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY;

CREATE TABLE public.adapter_shadow (
    id integer NOT NULL,
    task text NOT NULL,
    adapter_id integer NOT NULL,
    share real NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    ended_at timestamp with time zone,
    decided_by text NOT NULL,
    CONSTRAINT adapter_shadow_share_check CHECK (((share > (0)::double precision) AND (share <= (1)::double precision)))
);

ALTER TABLE public.adapter_shadow ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY;

CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);

CREATE TABLE public.dead_letter (
    record bigint NOT NULL,
    stage text NOT NULL,
    error text NOT NULL,
    message text NOT NULL,
    raw bytea,
    key bytea,
    state text DEFAULT 'waiting'::text NOT NULL,
    received_at timestamp with time zone NOT NULL,
    timestamp_ms bigint,
    replay_of bigint,
    replayed_as bigint,
    state_changed_at timestamp with time zone,
    state_reason text,
    to_forward boolean DEFAULT false NOT NULL,
    raw_full_bytes bigint,
    raw_sha256 text,
    key_full_bytes bigint,
    key_sha256 text,
    attempts integer DEFAULT 1 NOT NULL,
    CONSTRAINT dead_letter_state_check CHECK ((state = ANY (ARRAY['waiting'::text, 'replayed'::text, 'discarded'::text, 'superseded'::text])))
);

CREATE TABLE public.stream_partition (
    id integer NOT NULL,
    cluster_id text NOT NULL,
    topic text NOT NULL,
    topic_id text NOT NULL,
    partition integer NOT NULL,
    start_offset bigint NOT NULL,
    next_offset bigint NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT stream_partition_id_fits_record_check CHECK ((id < 8388608)),
    CONSTRAINT stream_partition_offsets_check CHECK (((start_offset <= next_offset) AND (next_offset < '1099511627776'::bigint)))
)
WITH (fillfactor='50');

CREATE VIEW public.dead_letters AS
 SELECT s.topic AS kafka_topic,
    s.partition AS kafka_partition,
    (d.record & '1099511627775'::bigint) AS kafka_offset,
    d.stage,
    d.error,
    d.message,
    d.raw,
    d.state,
    d.received_at,
    d.key,
    d.state_changed_at,
    d.state_reason,
    ( SELECT ((((o.topic || ':'::text) || o.partition) || ':'::text) || (d.replay_of & '1099511627775'::bigint))
           FROM public.stream_partition o
          WHERE (o.id = ((d.replay_of >> 40))::integer)) AS replay_of,
    ( SELECT ((((r.topic || ':'::text) || r.partition) || ':'::text) || (d.replayed_as & '1099511627775'::bigint))
           FROM public.stream_partition r
          WHERE (r.id = ((d.replayed_as >> 40))::integer)) AS replayed_as,
    d.attempts,
    d.raw_full_bytes,
    d.raw_sha256,
    d.key_full_bytes,
    d.key_sha256
   FROM (public.dead_letter d
     JOIN public.stream_partition s ON ((s.id = ((d.record >> 40))::integer)));
COMMENT ON VIEW public.dead_letters IS 'Records that could not become reviews, with the reason and their raw bytes';
COMMENT ON COLUMN public.dead_letters.kafka_topic IS 'The topic of the record';
COMMENT ON COLUMN public.dead_letters.kafka_partition IS 'Its partition';
COMMENT ON COLUMN public.dead_letters.kafka_offset IS 'Its offset in the partition';
COMMENT ON COLUMN public.dead_letters.stage IS 'Where it failed: parse, score, store or label';
COMMENT ON COLUMN public.dead_letters.error IS 'The reason, by a short name for counting';
COMMENT ON COLUMN public.dead_letters.message IS 'What is wrong, in a sentence that does not quote the record';
COMMENT ON COLUMN public.dead_letters.raw IS 'The value as it was delivered; NULL for a tombstone';
COMMENT ON COLUMN public.dead_letters.state IS 'waiting, replayed or discarded';
COMMENT ON COLUMN public.dead_letters.received_at IS 'When a worker had it in hand';
COMMENT ON COLUMN public.dead_letters.key IS 'The key as it was delivered';
COMMENT ON COLUMN public.dead_letters.state_changed_at IS 'When it was settled; NULL while it waits';
COMMENT ON COLUMN public.dead_letters.state_reason IS 'Why it was discarded';
COMMENT ON COLUMN public.dead_letters.replay_of IS 'The dead letter that it was another attempt at, as TOPIC:PARTITION:OFFSET';
COMMENT ON COLUMN public.dead_letters.replayed_as IS 'The record that was accepted in its place, as TOPIC:PARTITION:OFFSET';
COMMENT ON COLUMN public.dead_letters.attempts IS 'How often it was published so far, this attempt included';
COMMENT ON COLUMN public.dead_letters.raw_full_bytes IS 'Where raw is only the beginning of the value: how many bytes the whole value has';
COMMENT ON COLUMN public.dead_letters.raw_sha256 IS 'Where raw is only the beginning: the SHA-256 of the whole value';
COMMENT ON COLUMN public.dead_letters.key_full_bytes IS 'Where key is only the beginning of the key: how many bytes the whole key has';
COMMENT ON COLUMN public.dead_letters.key_sha256 IS 'Where key is only the beginning: the SHA-256 of the whole key';

CREATE TABLE public.drift_report (
    id integer NOT NULL,
    task text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    reference_since timestamp with time zone NOT NULL,
    reference_until timestamp with time zone NOT NULL,
    since timestamp with time zone NOT NULL,
    until timestamp with time zone NOT NULL,
    reviews bigint NOT NULL,
    verdict text NOT NULL,
    measures jsonb NOT NULL,
    attribution jsonb NOT NULL,
    alerted_at timestamp with time zone,
    wants_alert boolean DEFAULT true NOT NULL,
    wants_training boolean DEFAULT true NOT NULL,
    CONSTRAINT drift_report_verdict_check CHECK ((verdict = ANY (ARRAY['stable'::text, 'drift'::text, 'unknown'::text])))
);

ALTER TABLE public.drift_report ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY;

CREATE TABLE public.embedding (
    record bigint NOT NULL,
    task text NOT NULL,
    adapter_id integer NOT NULL,
    reason text NOT NULL,
    vector bytea NOT NULL
);

CREATE TABLE public.label (
    id bigint NOT NULL,
    record bigint NOT NULL,
    task text NOT NULL,
    label text,
    annotator text NOT NULL,
    source text NOT NULL,
    labelled_at timestamp with time zone NOT NULL,
    received_at timestamp with time zone DEFAULT now() NOT NULL,
    origin bigint
);

CREATE VIEW public.label_consensus AS
 WITH answer AS (
         SELECT DISTINCT ON (label.record, label.task, label.annotator) label.record,
            label.task,
            label.annotator,
            label.label,
            label.labelled_at,
            label.source
           FROM public.label
          ORDER BY label.record, label.task, label.annotator, label.labelled_at DESC, label.id DESC
        ), vote AS (
         SELECT answer.record,
            answer.task,
            answer.label,
            count(*) AS answers,
            max(answer.labelled_at) AS labelled_at
           FROM answer
          WHERE (answer.source <> 'undo'::text)
          GROUP BY answer.record, answer.task, answer.label
        ), tally AS (
         SELECT vote.record,
            vote.task,
            array_agg(vote.label ORDER BY vote.answers DESC, vote.label) FILTER (WHERE (vote.label IS NOT NULL)) AS labels,
            array_agg(vote.answers ORDER BY vote.answers DESC, vote.label) FILTER (WHERE (vote.label IS NOT NULL)) AS votes,
            (sum(vote.answers))::bigint AS answers,
            max(vote.labelled_at) AS labelled_at
           FROM vote
          GROUP BY vote.record, vote.task
        )
 SELECT record,
    task,
        CASE
            WHEN (votes[1] > COALESCE(votes[2], (0)::bigint)) THEN labels[1]
            ELSE NULL::text
        END AS label,
    COALESCE(votes[1], (0)::bigint) AS agreeing,
    answers,
    labelled_at
   FROM tally;
COMMENT ON VIEW public.label_consensus IS 'What the annotators of a record agree on: the latest answer of each counts once, unsure does not vote,
     the most votes win, and a tie is no consensus';

ALTER TABLE public.label ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY;

CREATE TABLE public.label_skip (
    record bigint NOT NULL,
    task text NOT NULL,
    annotator text NOT NULL,
    skipped_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.label_task (
    record bigint NOT NULL,
    task text NOT NULL,
    reason text NOT NULL,
    strategy text NOT NULL,
    priority real NOT NULL,
    wanted_answers smallint DEFAULT 1 NOT NULL,
    state text DEFAULT 'open'::text NOT NULL,
    queued_at timestamp with time zone DEFAULT now() NOT NULL,
    state_changed_at timestamp with time zone DEFAULT now() NOT NULL,
    training_run_id integer,
    holder text,
    lease_token bigint DEFAULT 0 NOT NULL,
    lease_expires_at timestamp with time zone,
    CONSTRAINT label_task_state_check CHECK ((state = ANY (ARRAY['open'::text, 'done'::text, 'skipped'::text, 'expired'::text])))
);

CREATE TABLE public.lease (
    name text NOT NULL,
    holder text NOT NULL,
    token bigint NOT NULL,
    expires_at timestamp with time zone NOT NULL
);

CREATE TABLE public.prediction (
    record bigint NOT NULL,
    task text NOT NULL,
    adapter_id integer NOT NULL,
    label text NOT NULL,
    confidence real NOT NULL,
    probabilities real[] NOT NULL,
    margin real NOT NULL,
    entropy real NOT NULL,
    truncated boolean NOT NULL,
    scored_at timestamp with time zone NOT NULL
);

CREATE TABLE public.prediction_history (
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
    scored_at timestamp with time zone NOT NULL,
    kept_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT prediction_history_reason_check CHECK ((reason = ANY (ARRAY['replaced'::text, 'shadow'::text])))
);

CREATE TABLE public.rescore_job (
    id integer NOT NULL,
    task text NOT NULL,
    adapter_id integer NOT NULL,
    since timestamp with time zone,
    until timestamp with time zone,
    state text DEFAULT 'running'::text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    finished_at timestamp with time zone,
    CONSTRAINT rescore_job_state_check CHECK ((state = ANY (ARRAY['running'::text, 'done'::text, 'cancelled'::text])))
);

ALTER TABLE public.rescore_job ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY;

CREATE TABLE public.rescore_range (
    job_id integer NOT NULL,
    first_record bigint NOT NULL,
    next_record bigint NOT NULL,
    done_record bigint NOT NULL,
    replaced bigint DEFAULT 0 NOT NULL,
    holder text,
    lease_token bigint DEFAULT 0 NOT NULL,
    lease_expires_at timestamp with time zone,
    finished_at timestamp with time zone,
    refused bigint DEFAULT 0 NOT NULL
);

CREATE TABLE public.review (
    record bigint NOT NULL,
    review_id text NOT NULL,
    text text NOT NULL,
    product text,
    source text,
    stars smallint,
    published_at timestamp with time zone NOT NULL,
    received_at timestamp with time zone NOT NULL,
    timestamp_ms bigint DEFAULT '-1'::integer NOT NULL,
    stars_given double precision,
    stated_published_at timestamp with time zone
);

CREATE VIEW public.scored_reviews AS
 SELECT r.review_id,
    r.text,
    r.product,
    r.source,
    r.published_at,
    p.task,
    p.label,
    p.confidence,
    p.probabilities,
    p.margin,
    p.entropy,
    p.truncated,
    a.version AS adapter_version,
    p.scored_at,
        CASE
            WHEN (EXISTS ( SELECT
               FROM public.label l
              WHERE ((l.record = p.record) AND (l.task = p.task)))) THEN ( SELECT c.label
               FROM public.label_consensus c
              WHERE ((c.record = p.record) AND (c.task = p.task)))
            ELSE NULL::text
        END AS human_label,
    s.topic AS kafka_topic,
    s.partition AS kafka_partition,
    (r.record & '1099511627775'::bigint) AS kafka_offset,
    p.adapter_id,
    COALESCE(r.stars_given, (r.stars)::double precision) AS stars,
    ( SELECT jsonb_object_agg(each.label, each.probability) AS jsonb_object_agg
           FROM UNNEST(a.labels, p.probabilities) each(label, probability)) AS label_probabilities,
    r.stated_published_at
   FROM (((public.prediction p
     JOIN public.review r ON ((r.record = p.record)))
     JOIN public.adapter a ON ((a.id = p.adapter_id)))
     JOIN public.stream_partition s ON ((s.id = ((p.record >> 40))::integer)))
  WHERE (NOT (EXISTS ( SELECT
           FROM public.review newer
          WHERE ((newer.review_id = r.review_id) AND (ROW(newer.published_at, newer.timestamp_ms, newer.received_at, newer.record) > ROW(r.published_at, r.timestamp_ms, r.received_at, r.record))))));
COMMENT ON VIEW public.scored_reviews IS 'The current version of every review, with one row per task';
COMMENT ON COLUMN public.scored_reviews.review_id IS 'The publisher''s name of the review';
COMMENT ON COLUMN public.scored_reviews.text IS 'The text of the current version';
COMMENT ON COLUMN public.scored_reviews.product IS 'What is reviewed; NULL where the publisher did not say';
COMMENT ON COLUMN public.scored_reviews.source IS 'Where the review comes from; NULL where the publisher did not say';
COMMENT ON COLUMN public.scored_reviews.published_at IS 'When it was published; Kafka''s time of the record where the publisher did not say';
COMMENT ON COLUMN public.scored_reviews.task IS 'What was asked, such as sentiment';
COMMENT ON COLUMN public.scored_reviews.label IS 'The most probable label';
COMMENT ON COLUMN public.scored_reviews.confidence IS 'The calibrated probability of the label, in [0, 1]';
COMMENT ON COLUMN public.scored_reviews.probabilities IS 'Calibrated probabilities in the adapter''s order of labels; they sum to 1';
COMMENT ON COLUMN public.scored_reviews.margin IS 'The greatest probability minus the second greatest, in [0, 1]';
COMMENT ON COLUMN public.scored_reviews.entropy IS 'Shannon entropy of the probabilities in nats';
COMMENT ON COLUMN public.scored_reviews.truncated IS 'Whether the model saw only a part of the text';
COMMENT ON COLUMN public.scored_reviews.adapter_version IS 'The adapter that scored it';
COMMENT ON COLUMN public.scored_reviews.scored_at IS 'When it was scored';
COMMENT ON COLUMN public.scored_reviews.human_label IS 'What people agree on; NULL where nobody answered, nobody is sure, or they disagree';
COMMENT ON COLUMN public.scored_reviews.kafka_topic IS 'The topic of the record';
COMMENT ON COLUMN public.scored_reviews.kafka_partition IS 'Its partition';
COMMENT ON COLUMN public.scored_reviews.kafka_offset IS 'Its offset in the partition';
COMMENT ON COLUMN public.scored_reviews.adapter_id IS 'The adapter''s number in the table adapter: the fastest way to ask for one adapter';
COMMENT ON COLUMN public.scored_reviews.stars IS 'The author''s own rating, from 1 to 5; NULL where there is none';
COMMENT ON COLUMN public.scored_reviews.label_probabilities IS 'The probabilities by label, as JSON: label_probabilities ->> ''negative''';
COMMENT ON COLUMN public.scored_reviews.stated_published_at IS 'What the publisher said where that is later than Kafka had the record: then published_at is Kafka''s time; NULL elsewhere';

CREATE TABLE public.stream_gap (
    stream_partition_id integer NOT NULL,
    first_offset bigint NOT NULL,
    next_offset bigint NOT NULL,
    found_at timestamp with time zone DEFAULT now() NOT NULL,
    reason text DEFAULT 'retention'::text NOT NULL
);

ALTER TABLE public.stream_partition ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY;

CREATE TABLE public.training_item (
    run_id integer NOT NULL,
    record bigint NOT NULL,
    slice text NOT NULL,
    label text NOT NULL,
    weight real NOT NULL,
    CONSTRAINT training_item_slice_check CHECK ((slice = ANY (ARRAY['train'::text, 'validation'::text, 'test'::text, 'audit'::text])))
);

CREATE TABLE public.training_run (
    id integer NOT NULL,
    task text NOT NULL,
    trigger text NOT NULL,
    state text DEFAULT 'running'::text NOT NULL,
    stage text DEFAULT 'start'::text NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    finished_at timestamp with time zone,
    lease_token bigint NOT NULL,
    config jsonb NOT NULL,
    manifest jsonb,
    metrics jsonb,
    verdict jsonb,
    error text,
    active_adapter text,
    candidate_adapter text,
    activation_id integer,
    CONSTRAINT training_run_state_check CHECK ((state = ANY (ARRAY['running'::text, 'promoted'::text, 'kept'::text, 'waiting'::text, 'failed'::text])))
);

ALTER TABLE public.training_run ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY;

CREATE TABLE public.waiting_label (
    id bigint NOT NULL,
    review_id text NOT NULL,
    task text NOT NULL,
    label text,
    annotator text NOT NULL,
    source text NOT NULL,
    labelled_at timestamp with time zone NOT NULL,
    received_at timestamp with time zone DEFAULT now() NOT NULL,
    origin bigint
);

ALTER TABLE public.waiting_label ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY;

ALTER TABLE ONLY public.adapter_activation
    ADD CONSTRAINT adapter_activation_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.adapter_activation
    ADD CONSTRAINT adapter_activation_task_replaces_key UNIQUE NULLS NOT DISTINCT (task, replaces);

ALTER TABLE ONLY public.adapter
    ADD CONSTRAINT adapter_content_hash_key UNIQUE (content_hash);

ALTER TABLE ONLY public.adapter_file
    ADD CONSTRAINT adapter_file_pkey PRIMARY KEY (adapter_id, path);

ALTER TABLE ONLY public.adapter
    ADD CONSTRAINT adapter_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.adapter_shadow
    ADD CONSTRAINT adapter_shadow_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.adapter
    ADD CONSTRAINT adapter_version_key UNIQUE (version);

ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);

ALTER TABLE ONLY public.dead_letter
    ADD CONSTRAINT dead_letter_pkey PRIMARY KEY (record);

ALTER TABLE ONLY public.drift_report
    ADD CONSTRAINT drift_report_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.drift_report
    ADD CONSTRAINT drift_report_windows_key UNIQUE (task, reference_since, reference_until, since, until);

ALTER TABLE ONLY public.embedding
    ADD CONSTRAINT embedding_pkey PRIMARY KEY (record, task);

ALTER TABLE ONLY public.label
    ADD CONSTRAINT label_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.label_skip
    ADD CONSTRAINT label_skip_pkey PRIMARY KEY (record, task, annotator);

ALTER TABLE ONLY public.label_task
    ADD CONSTRAINT label_task_pkey PRIMARY KEY (record, task);

ALTER TABLE ONLY public.lease
    ADD CONSTRAINT lease_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.prediction_history
    ADD CONSTRAINT prediction_history_pkey PRIMARY KEY (record, task, adapter_id);

ALTER TABLE ONLY public.prediction
    ADD CONSTRAINT prediction_pkey PRIMARY KEY (record, task);

ALTER TABLE ONLY public.rescore_job
    ADD CONSTRAINT rescore_job_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.rescore_range
    ADD CONSTRAINT rescore_range_pkey PRIMARY KEY (job_id, first_record);

ALTER TABLE ONLY public.review
    ADD CONSTRAINT review_pkey PRIMARY KEY (record);

ALTER TABLE ONLY public.stream_gap
    ADD CONSTRAINT stream_gap_pkey PRIMARY KEY (stream_partition_id, first_offset);

ALTER TABLE ONLY public.stream_partition
    ADD CONSTRAINT stream_partition_cluster_id_topic_id_partition_key UNIQUE (cluster_id, topic_id, partition);

ALTER TABLE ONLY public.stream_partition
    ADD CONSTRAINT stream_partition_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.training_item
    ADD CONSTRAINT training_item_pkey PRIMARY KEY (run_id, record);

ALTER TABLE ONLY public.training_run
    ADD CONSTRAINT training_run_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.waiting_label
    ADD CONSTRAINT waiting_label_pkey PRIMARY KEY (id);

CREATE UNIQUE INDEX adapter_shadow_task_idx ON public.adapter_shadow USING btree (task) WHERE (ended_at IS NULL);

CREATE INDEX dead_letter_forward_idx ON public.dead_letter USING btree (record) WHERE to_forward;

CREATE INDEX dead_letter_received_idx ON public.dead_letter USING btree (received_at, record);

CREATE INDEX dead_letter_replay_idx ON public.dead_letter USING btree (replay_of) WHERE (replay_of IS NOT NULL);

CREATE UNIQUE INDEX label_origin_idx ON public.label USING btree (origin);

CREATE INDEX label_record_idx ON public.label USING btree (record, task, labelled_at);

CREATE INDEX label_task_idx ON public.label USING btree (task, received_at);

CREATE INDEX label_task_open_idx ON public.label_task USING btree (task, priority DESC, record) WHERE (state = 'open'::text);

CREATE INDEX prediction_adapter_idx ON public.prediction USING btree (adapter_id, scored_at);

CREATE INDEX prediction_confidence_idx ON public.prediction USING btree (confidence);

CREATE INDEX prediction_history_shadow_idx ON public.prediction_history USING btree (kept_at) WHERE (reason = 'shadow'::text);

CREATE INDEX prediction_label_idx ON public.prediction USING btree (label, scored_at, adapter_id);

CREATE INDEX prediction_scored_idx ON public.prediction USING btree (scored_at);

CREATE INDEX prediction_uncertain_idx ON public.prediction USING btree (scored_at, adapter_id, confidence) WHERE (margin < (0.2)::double precision);

CREATE UNIQUE INDEX rescore_job_running_idx ON public.rescore_job USING btree (task) WHERE (state = 'running'::text);

CREATE INDEX review_current_idx ON public.review USING btree (review_id, published_at, timestamp_ms, received_at, record);

CREATE INDEX review_product_idx ON public.review USING btree (product);

CREATE INDEX review_source_idx ON public.review USING btree (source);

CREATE INDEX training_run_task_idx ON public.training_run USING btree (task, id);

CREATE UNIQUE INDEX waiting_label_origin_idx ON public.waiting_label USING btree (origin);

CREATE INDEX waiting_label_review_idx ON public.waiting_label USING btree (review_id);

CREATE STATISTICS public.prediction_partition_stats ON ((record >> 40)::integer) FROM public.prediction;

ALTER TABLE ONLY public.adapter_activation
    ADD CONSTRAINT adapter_activation_adapter_id_fkey FOREIGN KEY (adapter_id) REFERENCES public.adapter(id);

ALTER TABLE ONLY public.adapter_activation
    ADD CONSTRAINT adapter_activation_replaces_fkey FOREIGN KEY (replaces) REFERENCES public.adapter_activation(id);

ALTER TABLE ONLY public.adapter_activation
    ADD CONSTRAINT adapter_activation_restores_fkey FOREIGN KEY (restores) REFERENCES public.adapter_activation(id);

ALTER TABLE ONLY public.adapter_file
    ADD CONSTRAINT adapter_file_adapter_id_fkey FOREIGN KEY (adapter_id) REFERENCES public.adapter(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.adapter_shadow
    ADD CONSTRAINT adapter_shadow_adapter_id_fkey FOREIGN KEY (adapter_id) REFERENCES public.adapter(id);

ALTER TABLE ONLY public.rescore_job
    ADD CONSTRAINT rescore_job_adapter_id_fkey FOREIGN KEY (adapter_id) REFERENCES public.adapter(id);

ALTER TABLE ONLY public.rescore_range
    ADD CONSTRAINT rescore_range_job_id_fkey FOREIGN KEY (job_id) REFERENCES public.rescore_job(id);

ALTER TABLE ONLY public.stream_gap
    ADD CONSTRAINT stream_gap_stream_partition_id_fkey FOREIGN KEY (stream_partition_id) REFERENCES public.stream_partition(id);

ALTER TABLE ONLY public.training_item
    ADD CONSTRAINT training_item_run_id_fkey FOREIGN KEY (run_id) REFERENCES public.training_run(id);

ALTER TABLE ONLY public.training_run
    ADD CONSTRAINT training_run_activation_id_fkey FOREIGN KEY (activation_id) REFERENCES public.adapter_activation(id);

INSERT INTO public.alembic_version VALUES ('0013');

INSERT INTO public.stream_partition (cluster_id, topic, topic_id, partition, start_offset, next_offset)
VALUES ('cluster', 'reviews', 'id', 0, 0, 4);
INSERT INTO public.stream_gap VALUES (1, 2, 3);
INSERT INTO public.adapter (version, task, labels, base_model, content_hash, temperature, metrics)
VALUES ('sentiment-1', 'sentiment', '{bad,good}', 'base', 'one', 1, '{}'),
       ('sentiment-2', 'sentiment', '{bad,good}', 'base', 'two', 1, '{}');
INSERT INTO public.adapter_file VALUES (1, 'weights', 'hash', '\x00');
INSERT INTO public.adapter_activation (task, adapter_id, replaces, decided_by, reason)
VALUES ('sentiment', 1, NULL, 'ann', 'the first'), ('sentiment', 2, 1, 'ann', 'better');
INSERT INTO public.review (record, review_id, text, published_at, received_at)
VALUES (1::bigint << 40, 'r1', 'Lovely.', '2026-01-01', '2026-01-01'),
       ((1::bigint << 40) + 1, 'r1', 'Shrank.', '2026-01-02', '2026-01-02');
INSERT INTO public.prediction
SELECT record, 'sentiment', 1, 'good', 0.75, '{0.25,0.75}', 0.5, 0.5, false, received_at FROM public.review;
INSERT INTO public.dead_letter (record, stage, error, message, raw, received_at)
VALUES ((1::bigint << 40) + 3, 'parse', 'not_json', 'It is no JSON.', '\x7b', '2026-01-03');
INSERT INTO public.label (record, task, label, annotator, source, labelled_at)
VALUES ((1::bigint << 40) + 1, 'sentiment', 'bad', 'ann', 'terminal', '2026-01-04');
INSERT INTO public.training_run (task, trigger, lease_token, config) VALUES ('sentiment', 'manual', 1, '{}');
INSERT INTO public.drift_report (task, reference_since, reference_until, since, until, reviews, verdict, measures,
                                 attribution)
VALUES ('sentiment', '2026-01-01', '2026-01-02', '2026-01-02', '2026-01-03', 2, 'stable', '{}', '{}');
