"""The tables and views in SQLAlchemy; a test compares them with the migrations.

The hot tables (review, prediction, dead_letter) have no foreign keys: one transaction writes them and
moves the offset, and a check for each row would cost a lookup in the table just written.
"""

from typing import Any

from sqlalchemy import (
    ARRAY,
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    false,
    func,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB

UNCERTAIN_MARGIN = 0.2  # the index of uncertain predictions holds those whose two best labels are closer
BY_PEOPLE = "NOT starts_with(annotator, 'model:')"
"""SQL that is true of an answer in ``label`` of a person, or of a program that speaks for one."""
BY_MODELS = "starts_with(annotator, 'model:')"
"""SQL that is true of an answer of a model."""

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)


_TIME = DateTime(timezone=True)


def _moment(name: str, *, now: bool = False) -> Column[object]:
    return Column(name, _TIME, nullable=False, server_default=func.now() if now else None)


def _lease_columns() -> tuple[Column[Any], ...]:
    """The holder of a row, until when by the database's clock, and the fencing token."""
    return (
        Column("holder", Text),
        Column("lease_token", BigInteger, nullable=False, server_default="0"),
        Column("lease_expires_at", _TIME),
    )


def _score_columns() -> tuple[Column[Any], ...]:
    """What an adapter said of a record."""
    return (
        Column("label", Text, nullable=False),
        Column("confidence", REAL, nullable=False),
        Column("probabilities", ARRAY(REAL), nullable=False),
        Column("margin", REAL, nullable=False),
        Column("entropy", REAL, nullable=False),
        Column("truncated", Boolean, nullable=False),
        _moment("scored_at"),
    )


stream_partition = Table(
    "stream_partition",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("cluster_id", Text, nullable=False),
    Column("topic", Text, nullable=False),
    Column("topic_id", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("start_offset", BigInteger, nullable=False),
    Column("next_offset", BigInteger, nullable=False),
    _moment("created_at", now=True),
    Column("start_reason", Text),  # NULL where a version of this program wrote the row that did not keep it
    # Records before this offset may be of an erased review: the writer compares them with the hashes.
    Column("erased_until", BigInteger, nullable=False, server_default="0"),
    UniqueConstraint("cluster_id", "topic_id", "partition"),
    CheckConstraint("id < 8388608", name="id_fits_record"),  # 23 bits: record = id << 40 | offset
    CheckConstraint("start_offset <= next_offset AND next_offset < 1099511627776", name="offsets"),
)

stream_gap = Table(
    "stream_gap",
    metadata,
    Column("stream_partition_id", Integer, ForeignKey("stream_partition.id"), primary_key=True),
    Column("first_offset", BigInteger, primary_key=True, autoincrement=False),
    Column("next_offset", BigInteger, nullable=False),
    _moment("found_at", now=True),
    Column("reason", Text, nullable=False, server_default="retention"),
)
Index("stream_gap_found_idx", stream_gap.c.found_at)

review = Table(
    "review",
    metadata,
    Column("record", BigInteger, primary_key=True, autoincrement=False),
    Column("review_id", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("product", Text),
    Column("source", Text),
    Column("stars", SmallInteger),  # rounded to a whole one
    _moment("published_at"),
    _moment("received_at"),
    # Kafka's time, or that of receipt where it has none; -1 where a version of this program wrote the row
    # that did not keep it.
    Column("timestamp_ms", BigInteger, nullable=False, server_default="-1"),
    Column("stars_given", Double),  # where they are not whole
    Column("stated_published_at", _TIME),  # where it lay in the time to come
    Column("attributes", JSONB),  # further fields that the review's source names
)
Index(
    "review_current_idx",
    review.c.review_id,
    review.c.published_at,
    review.c.timestamp_ms,
    review.c.received_at,
    review.c.record,
)
Index("review_product_idx", review.c.product)
Index("review_source_idx", review.c.source)
Index(
    "review_attributes_idx",
    review.c.attributes,
    postgresql_using="gin",
    postgresql_ops={"attributes": "jsonb_path_ops"},
    postgresql_where=review.c.attributes.is_not(None),
)

withdrawal = Table(
    "withdrawal",
    metadata,
    Column("record", BigInteger, primary_key=True, autoincrement=False),
    Column("review_id", Text, nullable=False),
    Column("kind", Text, nullable=False),  # how it was said: by a message, or by a key without a value
    _moment("received_at"),
    Column("timestamp_ms", BigInteger, nullable=False),  # Kafka's time, or that of receipt where it has none
    CheckConstraint("kind IN ('delete', 'tombstone')", name="kind"),
)
Index(
    "withdrawal_review_idx",
    withdrawal.c.review_id,
    withdrawal.c.timestamp_ms,
    withdrawal.c.received_at,
    withdrawal.c.record,
)

prediction = Table(
    "prediction",
    metadata,
    Column("record", BigInteger, primary_key=True, autoincrement=False),
    Column("task", Text, primary_key=True),
    Column("adapter_id", Integer, nullable=False),
    *_score_columns(),
    Column("rescore_job_id", Integer),  # of the rescoring that wrote it; NULL: the stream did
)
Index("prediction_scored_idx", prediction.c.scored_at)
Index("prediction_adapter_idx", prediction.c.adapter_id, prediction.c.scored_at)
Index("prediction_label_idx", prediction.c.label, prediction.c.scored_at, prediction.c.adapter_id)
Index("prediction_confidence_idx", prediction.c.confidence)
Index(
    "prediction_uncertain_idx",
    prediction.c.scored_at,
    prediction.c.adapter_id,
    prediction.c.confidence,
    postgresql_where=prediction.c.margin < UNCERTAIN_MARGIN,
)

dead_letter = Table(
    "dead_letter",
    metadata,
    Column("record", BigInteger, primary_key=True, autoincrement=False),
    Column("stage", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("raw", LargeBinary),
    Column("key", LargeBinary),
    Column("state", Text, nullable=False, server_default="waiting"),
    _moment("received_at"),
    Column("timestamp_ms", BigInteger),
    Column("replay_of", BigInteger),  # the first attempt's record
    Column("replayed_as", BigInteger),  # the record that was accepted in its place
    Column("state_changed_at", _TIME),
    Column("state_reason", Text),
    Column("to_forward", Boolean, nullable=False, server_default=false()),
    Column("raw_full_bytes", BigInteger),  # where raw is only the beginning: of the whole value
    Column("raw_sha256", Text),
    Column("key_full_bytes", BigInteger),
    Column("key_sha256", Text),
    Column("attempts", Integer, nullable=False, server_default="1"),
    Column("headers", JSONB),
    CheckConstraint("state IN ('waiting', 'replayed', 'discarded', 'superseded')", name="state"),
)
Index(
    "dead_letter_replay_idx", dead_letter.c.replay_of, postgresql_where=dead_letter.c.replay_of.is_not(None)
)
Index("dead_letter_forward_idx", dead_letter.c.record, postgresql_where=dead_letter.c.to_forward)
Index(
    "dead_letter_reason_idx",
    dead_letter.c.state,
    dead_letter.c.stage,
    dead_letter.c.error,
    dead_letter.c.received_at,
    dead_letter.c.record,
)
Index("dead_letter_received_idx", dead_letter.c.received_at, dead_letter.c.record)

adapter = Table(
    "adapter",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("version", Text, nullable=False, unique=True),
    Column("task", Text, nullable=False),
    Column("labels", ARRAY(Text), nullable=False),
    Column("base_model", Text, nullable=False),
    Column("base_revision", Text),
    Column("content_hash", Text, nullable=False, unique=True),
    Column("temperature", REAL, nullable=False),
    Column("metrics", JSONB, nullable=False),
    Column("parent", Text),
    _moment("created_at", now=True),
    Column("state", Text, nullable=False, server_default="registered"),  # rejected: the gate refused it
    CheckConstraint("state IN ('registered', 'rejected')", name="state"),
    Column("origin", Text, nullable=False, server_default="trained"),
    CheckConstraint("origin IN ('trained', 'zero-shot')", name="origin"),
)

adapter_file = Table(
    "adapter_file",
    metadata,
    Column("adapter_id", Integer, ForeignKey("adapter.id", ondelete="CASCADE"), primary_key=True),
    Column("path", Text, primary_key=True),
    Column("sha256", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),
)

# A chain: every activation names the one it replaces, and the unique key lets each be replaced once only.
adapter_activation = Table(
    "adapter_activation",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("task", Text, nullable=False),
    Column("adapter_id", Integer, ForeignKey("adapter.id"), nullable=False),
    Column("replaces", Integer, ForeignKey("adapter_activation.id")),
    _moment("activated_at", now=True),
    Column("decided_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("restores", Integer, ForeignKey("adapter_activation.id")),  # what a rollback brought back
    UniqueConstraint("task", "replaces", postgresql_nulls_not_distinct=True),
)

# An answer of a person or an import; without a label: "unsure". `origin` is the record of the labels topic
# that brought it, which makes a label from there one row and not two.
label = Table(
    "label",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("record", BigInteger, nullable=False),
    Column("task", Text, nullable=False),
    Column("label", Text),
    Column("annotator", Text, nullable=False),
    Column("source", Text, nullable=False),
    _moment("labelled_at"),
    _moment("received_at", now=True),
    Column("origin", BigInteger),
    Column("seconds", REAL),  # that the answer took; NULL where nobody measured it
    # That wrote the row: ids are given before they commit, and are no order in which rows appear.
    Column(
        "transaction_id",
        BigInteger,
        nullable=False,
        server_default=text("pg_current_xact_id()::text::bigint"),
    ),
)
Index("label_transaction_idx", label.c.transaction_id, label.c.id)
Index("label_record_idx", label.c.record, label.c.task, label.c.labelled_at)
Index("label_origin_idx", label.c.origin, unique=True)
Index("label_task_idx", label.c.task, label.c.received_at)
_IS_BY_MODEL = func.starts_with(label.c.annotator, "model:")
Index("label_people_idx", label.c.task, label.c.received_at, postgresql_where=~_IS_BY_MODEL)
Index("label_models_idx", label.c.task, label.c.received_at, postgresql_where=_IS_BY_MODEL)
Index("label_annotator_idx", label.c.annotator, label.c.task, label.c.received_at)

# The labels of a task, version after version: the first is as they were before the first declared change.
label_set = Table(
    "label_set",
    metadata,
    Column("task", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("labels", ARRAY(Text), nullable=False),
    Column("kind", Text, nullable=False),
    Column("sources", ARRAY(Text), nullable=False),
    Column("targets", ARRAY(Text), nullable=False),
    Column("declared_by", Text, nullable=False),
    Column("declared_at", _TIME, nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint("kind IN ('first', 'rename', 'merge', 'split', 'add')", name="kind"),
)

waiting_label = Table(
    "waiting_label",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("review_id", Text, nullable=False),
    Column("task", Text, nullable=False),
    Column("label", Text),
    Column("annotator", Text, nullable=False),
    Column("source", Text, nullable=False),
    _moment("labelled_at"),
    _moment("received_at", now=True),
    Column("origin", BigInteger),
    Column("seconds", REAL),
    _moment("look_at", now=True),  # when its review is looked for next
)
Index("waiting_label_origin_idx", waiting_label.c.origin, unique=True)
Index("waiting_label_review_idx", waiting_label.c.review_id)
Index("waiting_label_look_idx", waiting_label.c.look_at)

# The annotation queue: a row is a queue item, with the classification task that it asks about.
label_task = Table(
    "label_task",
    metadata,
    Column("record", BigInteger, primary_key=True, autoincrement=False),
    Column("task", Text, primary_key=True),
    Column("reason", Text, nullable=False),  # uncertain, audit, disagreement, drift, edited, second_look, tie
    Column("strategy", Text, nullable=False),
    Column("priority", REAL, nullable=False),
    Column("wanted_answers", SmallInteger, nullable=False, server_default="1"),
    Column("state", Text, nullable=False, server_default="open"),
    _moment("queued_at", now=True),
    _moment("state_changed_at", now=True),
    Column("training_run_id", Integer),
    *_lease_columns(),
    Column("draw_weight", REAL),  # of an audit item that was drawn with another chance than others
    CheckConstraint("draw_weight > 0 AND draw_weight <= 1", name="draw_weight"),
    CheckConstraint("state IN ('open', 'done', 'skipped', 'expired')", name="state"),
)
Index(
    "label_task_open_idx",
    label_task.c.task,
    label_task.c.priority.desc(),
    label_task.c.record,
    postgresql_where=label_task.c.state == "open",
)
Index(
    "label_task_audit_idx",
    label_task.c.task,
    label_task.c.state_changed_at,
    postgresql_where=label_task.c.reason == "audit",
)
Index("label_task_finished_idx", label_task.c.state_changed_at, postgresql_where=label_task.c.state != "open")
Index("label_task_queued_idx", label_task.c.task, label_task.c.queued_at)
Index("label_task_changed_idx", label_task.c.task, label_task.c.state_changed_at)
Index("label_task_holder_idx", label_task.c.holder, postgresql_where=label_task.c.holder.is_not(None))

label_skip = Table(
    "label_skip",
    metadata,
    Column("record", BigInteger, primary_key=True, autoincrement=False),
    Column("task", Text, primary_key=True),
    Column("annotator", Text, primary_key=True),
    _moment("skipped_at", now=True),
)

# What was done in the console, by ids that the senders made: a request that comes again is known.
label_action = Table(
    "label_action",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("record", BigInteger, nullable=False),
    Column("task", Text, nullable=False),
    Column("annotator", Text, nullable=False),
    Column("label", Text),
    Column("seconds", REAL),
    Column("undoes", Uuid),
    Column("acted_at", _TIME, nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint("kind IN ('answer', 'skip', 'undo')", name="kind"),
)
Index("label_action_annotator_idx", label_action.c.annotator, label_action.c.task, label_action.c.acted_at)
Index("label_action_record_idx", label_action.c.record)
Index("label_action_time_idx", label_action.c.acted_at)
Index(
    "label_action_undoes_idx",
    label_action.c.annotator,
    label_action.c.undoes,
    unique=True,
    postgresql_where=label_action.c.undoes.is_not(None),
)

# Annotations of Label Studio: what each said last, so that a change or a deletion there changes that answer.
# `answers` has, by task, the label and the `labelled_at` of the row in `label`.
label_studio_annotation = Table(
    "label_studio_annotation",
    metadata,
    Column("project", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("in_task", BigInteger),
    Column("record", BigInteger),
    Column("annotator", Text),
    Column("answers", JSONB, nullable=False, server_default="{}"),
    Column("changed_at", _TIME),
    Column("is_deleted", Boolean, nullable=False, server_default=false()),
)
Index(
    "label_studio_annotation_record_idx",
    label_studio_annotation.c.record,
    label_studio_annotation.c.annotator,
)
Index(
    "label_studio_annotation_task_idx", label_studio_annotation.c.project, label_studio_annotation.c.in_task
)

# What annotators are told, as Markdown.
guideline = Table(
    "guideline",
    metadata,
    Column("task", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("text", Text, nullable=False),
    Column("written_by", Text, nullable=False),
    Column("written_at", _TIME, nullable=False, server_default=func.clock_timestamp()),
)

embedding = Table(
    "embedding",
    metadata,
    Column("record", BigInteger, primary_key=True, autoincrement=False),
    Column("task", Text, primary_key=True),
    Column("adapter_id", Integer, nullable=False),
    Column("reason", Text, nullable=False),  # why this one was kept: uncertain, audit, sample, all
    Column("vector", LargeBinary, nullable=False),  # float16, little-endian, as many as the base is wide
)

prediction_history = Table(
    "prediction_history",
    metadata,
    Column("record", BigInteger, primary_key=True, autoincrement=False),
    Column("task", Text, primary_key=True),
    Column("adapter_id", Integer, primary_key=True, autoincrement=False),
    Column("reason", Text, nullable=False),
    *_score_columns(),
    _moment("kept_at", now=True),
    CheckConstraint("reason IN ('replaced', 'shadow')", name="reason"),
)
Index(
    "prediction_history_adapter_idx",
    prediction_history.c.adapter_id,
    prediction_history.c.task,
    prediction_history.c.record,
)
Index("prediction_history_kept_idx", prediction_history.c.kept_at)
Index(
    "prediction_history_shadow_idx",
    prediction_history.c.kept_at,
    postgresql_where=prediction_history.c.reason == "shadow",
)

adapter_shadow = Table(
    "adapter_shadow",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("task", Text, nullable=False),
    Column("adapter_id", Integer, ForeignKey("adapter.id"), nullable=False),
    Column("share", REAL, nullable=False),
    _moment("started_at", now=True),
    Column("ended_at", _TIME),
    Column("decided_by", Text, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("ended_by", Text),
    Column("end_reason", Text),
    CheckConstraint("share > 0 AND share <= 1", name="share"),
)
Index(
    "adapter_shadow_task_idx",
    adapter_shadow.c.task,
    unique=True,
    postgresql_where=adapter_shadow.c.ended_at.is_(None),
)

rescore_job = Table(
    "rescore_job",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("task", Text, nullable=False),
    Column("adapter_id", Integer, ForeignKey("adapter.id"), nullable=False),
    Column("since", _TIME),
    Column("until", _TIME),
    Column("state", Text, nullable=False, server_default="running"),
    _moment("created_at", now=True),
    Column("finished_at", _TIME),
    CheckConstraint("state IN ('running', 'done', 'cancelled')", name="state"),
)
Index(
    "rescore_job_running_idx",
    rescore_job.c.task,
    unique=True,
    postgresql_where=rescore_job.c.state == "running",
)

rescore_range = Table(
    "rescore_range",
    metadata,
    Column("job_id", Integer, ForeignKey("rescore_job.id"), primary_key=True),
    Column("first_record", BigInteger, primary_key=True, autoincrement=False),
    Column("next_record", BigInteger, nullable=False),
    Column("done_record", BigInteger, nullable=False),
    Column("replaced", BigInteger, nullable=False, server_default="0"),
    *_lease_columns(),
    Column("finished_at", _TIME),
    Column("refused", BigInteger, nullable=False, server_default="0"),  # texts that the model failed on
)
Index(
    "rescore_range_left_idx",
    rescore_range.c.job_id,
    rescore_range.c.first_record,
    postgresql_where=rescore_range.c.finished_at.is_(None),
)

# A topic that scored rows are published to.
sink = Table(
    "sink",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("topic", Text, nullable=False, unique=True),
    Column("is_open", Boolean, nullable=False, server_default=false()),
    _moment("created_at", now=True),
)

# How far a sink is in a partition of the stream.
sink_position = Table(
    "sink_position",
    metadata,
    Column("sink_id", Integer, ForeignKey("sink.id", ondelete="CASCADE"), primary_key=True),
    Column("stream_partition_id", Integer, ForeignKey("stream_partition.id"), primary_key=True),
    Column("next_record", BigInteger, nullable=False),
    _moment("moved_at", now=True),
)

# A row that has changed since a sink published it, or may have. Of labels a trigger says so.
sink_change = Table(
    "sink_change",
    metadata,
    Column("sink_id", Integer, ForeignKey("sink.id", ondelete="CASCADE"), primary_key=True),
    Column("record", BigInteger, primary_key=True, autoincrement=False),
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("task", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("review_id", Text),  # of an erased review, whose row is gone
    CheckConstraint("reason IN ('labelled', 'rescored', 'erased')", name="reason"),
)

lease = Table(
    "lease",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("token", BigInteger, nullable=False),  # grows with every new holder: a fence against the old one
    _moment("expires_at"),
)

training_run = Table(
    "training_run",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("task", Text, nullable=False),
    Column("trigger", Text, nullable=False),
    Column("state", Text, nullable=False, server_default="running"),
    Column("stage", Text, nullable=False, server_default="start"),
    _moment("started_at", now=True),
    Column("finished_at", _TIME),
    Column("lease_token", BigInteger, nullable=False),
    Column("config", JSONB, nullable=False),
    Column("manifest", JSONB),
    Column("metrics", JSONB),
    Column("verdict", JSONB),
    Column("error", Text),
    Column("active_adapter", Text),
    Column("candidate_adapter", Text),
    Column("activation_id", Integer, ForeignKey("adapter_activation.id")),
    Column("progress", JSONB),  # of its fits, as far as they got
    CheckConstraint("state IN ('running', 'promoted', 'kept', 'waiting', 'failed')", name="state"),
)
Index("training_run_task_idx", training_run.c.task, training_run.c.id)

# Runs that people ask for; at most one request of a task is open.
run_request = Table(
    "run_request",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("task", Text, nullable=False),
    Column("requested_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    _moment("requested_at", now=True),
    _moment("expires_at"),
    Column("taken_at", _TIME),
    Column("taken_by", Text),
    Column("run_id", Integer, ForeignKey("training_run.id"), unique=True),
    Column("closed_at", _TIME),
    Column("error", Text),
)
Index(
    "run_request_open_idx",
    run_request.c.task,
    unique=True,
    postgresql_where=run_request.c.closed_at.is_(None),
)
Index("run_request_task_idx", run_request.c.task, run_request.c.id)

# The frozen dataset of a run.
# What MLflow has: the id of a run there, or the number of a model version.
mlflow_mirror = Table(
    "mlflow_mirror",
    metadata,
    Column("server", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("mlflow_id", Text, nullable=False),
    _moment("mirrored_at", now=True),
    CheckConstraint("kind IN ('run', 'adapter', 'activation')", name="kind"),
)

training_item = Table(
    "training_item",
    metadata,
    Column("run_id", Integer, ForeignKey("training_run.id"), primary_key=True),
    Column("record", BigInteger, primary_key=True, autoincrement=False),
    Column("slice", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("weight", REAL, nullable=False),
    CheckConstraint("slice IN ('train', 'validation', 'test', 'audit')", name="slice"),
)
Index("training_item_record_idx", training_item.c.record)

drift_report = Table(
    "drift_report",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("task", Text, nullable=False),
    _moment("created_at", now=True),
    _moment("reference_since"),
    _moment("reference_until"),
    _moment("since"),
    _moment("until"),
    Column("reviews", BigInteger, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("measures", JSONB, nullable=False),
    Column("attribution", JSONB, nullable=False),
    Column("alerted_at", _TIME),
    # True where a version of this program wrote the row that knows neither.
    Column("wants_alert", Boolean, nullable=False, server_default=true()),
    Column("wants_training", Boolean, nullable=False, server_default=true()),
    CheckConstraint("verdict IN ('stable', 'drift', 'unknown')", name="verdict"),
    UniqueConstraint(
        "task", "reference_since", "reference_until", "since", "until", name="drift_report_windows_key"
    ),
)

# Accounts of the console. Sessions, links and tokens are stored as SHA-256 of their secret.
console_user = Table(
    "console_user",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False),
    Column("password_hash", Text),  # argon2id; NULL: links or single sign-on let the user in
    Column("role", Text, nullable=False),
    _moment("created_at", now=True),
    Column("created_by", Text, nullable=False),
    Column("disabled_at", _TIME),
    CheckConstraint("role IN ('viewer', 'annotator', 'operator', 'owner')", name="role"),
)
Index("console_user_name_idx", func.lower(console_user.c.name), unique=True)

console_session = Table(
    "console_session",
    metadata,
    Column("secret_hash", LargeBinary, primary_key=True),
    Column("user_id", Integer, ForeignKey("console_user.id"), nullable=False),
    Column("method", Text, nullable=False),
    _moment("created_at", now=True),
    _moment("expires_at"),
    CheckConstraint("method IN ('password', 'link', 'proxy')", name="method"),
)
Index("console_session_user_idx", console_session.c.user_id)

console_link = Table(
    "console_link",
    metadata,
    Column("secret_hash", LargeBinary, primary_key=True),
    Column("user_id", Integer, ForeignKey("console_user.id"), nullable=False),
    Column("purpose", Text, nullable=False),
    _moment("created_at", now=True),
    _moment("expires_at"),
    CheckConstraint("purpose IN ('log_in', 'password')", name="purpose"),
)
Index("console_link_user_idx", console_link.c.user_id)

console_token = Table(
    "console_token",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("secret_hash", LargeBinary, nullable=False, unique=True),
    Column("user_id", Integer, ForeignKey("console_user.id"), nullable=False),
    Column("role", Text, nullable=False),
    _moment("created_at", now=True),
    _moment("expires_at"),
    Column("revoked_at", _TIME),
    Column("last_used_at", _TIME),
    CheckConstraint("role IN ('viewer', 'annotator', 'operator', 'owner')", name="role"),
)
Index("console_token_user_idx", console_token.c.user_id)

# Attempts that failed or are in progress, of the last minutes.
log_in_attempt = Table(
    "log_in_attempt",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("account", LargeBinary, nullable=False),  # SHA-256 of the name that was given
    Column("address", Text, nullable=False),
    _moment("attempted_at", now=True),
)
Index("log_in_attempt_time_idx", log_in_attempt.c.attempted_at)

# A decision is written before it is taken, and its outcome afterwards.
audit_log = Table(
    "audit_log",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _moment("decided_at", now=True),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("outcome", Text),  # NULL: the console ended before it knew
    Column("message", Text, nullable=False, server_default=""),
    Column("address", Text, nullable=False),
    CheckConstraint("outcome IN ('done', 'refused')", name="outcome"),
)

# Erasures: what was asked for, how far it is, and the receipt.
erasure = Table(
    "erasure",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("requested_at", _TIME, nullable=False, server_default=func.clock_timestamp()),
    Column("requested_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("stage", Text, nullable=False, server_default="requested"),
    Column("progress", BigInteger, nullable=False, server_default="0"),  # within the stage
    Column("finished_at", _TIME),
    Column("closed_at", _TIME),
    Column("seal", Text),
    CheckConstraint("stage IN ('requested', 'traced', 'scrubbed', 'deleted', 'done')", name="stage"),
)


def _of_erasure() -> Column[Any]:
    return Column("erasure_id", Integer, ForeignKey("erasure.id"), primary_key=True)


erasure_review = Table(
    "erasure_review",
    metadata,
    _of_erasure(),
    Column("hash", LargeBinary, primary_key=True),
    Column("review_id", Text),  # until it is erased
)
Index("erasure_review_hash_idx", erasure_review.c.hash)

# Where each partition ended when it was asked for: what is read before that is not stored again.
erasure_position = Table(
    "erasure_position",
    metadata,
    _of_erasure(),
    Column("stream_partition_id", Integer, ForeignKey("stream_partition.id"), primary_key=True),
    Column("next_offset", BigInteger, nullable=False),
)

erasure_record = Table(
    "erasure_record",
    metadata,
    _of_erasure(),
    Column("record", BigInteger, primary_key=True, autoincrement=False),
    Column("text_sha256", Text, nullable=False),
)

erasure_finding = Table(
    "erasure_finding",
    metadata,
    _of_erasure(),
    Column("place", Text, primary_key=True),
    Column("rows", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("detail", Text, nullable=False, server_default=""),
    CheckConstraint("state IN ('erased', 'open')", name="state"),
)

# Runs whose dataset had an erased review, and adapters whose files hold one.
erasure_run = Table(
    "erasure_run",
    metadata,
    _of_erasure(),
    Column("run_id", Integer, ForeignKey("training_run.id"), primary_key=True),
)
erasure_adapter = Table(
    "erasure_adapter",
    metadata,
    _of_erasure(),
    Column("adapter_id", Integer, ForeignKey("adapter.id"), primary_key=True),
)

# Views are apart so that `metadata` holds tables only. The first two are the public contract.
views = MetaData()


def _view(name: str, **columns: Any) -> Table:
    return Table(name, views, *(Column(column, type_) for column, type_ in columns.items()))


scored_reviews = _view(
    "scored_reviews",
    review_id=Text, text=Text, product=Text, source=Text, published_at=_TIME,
    task=Text, label=Text, confidence=REAL, probabilities=ARRAY(REAL), margin=REAL, entropy=REAL,
    truncated=Boolean, adapter_version=Text, scored_at=_TIME, human_label=Text,
    kafka_topic=Text, kafka_partition=Integer, kafka_offset=BigInteger,
    adapter_id=Integer, stars=Double, label_probabilities=JSONB, stated_published_at=_TIME,
    record=BigInteger, attributes=JSONB,
)  # fmt: skip

dead_letters = _view(
    "dead_letters",
    kafka_topic=Text, kafka_partition=Integer, kafka_offset=BigInteger,
    stage=Text, error=Text, message=Text, raw=LargeBinary, state=Text, received_at=_TIME, key=LargeBinary,
    state_changed_at=_TIME, state_reason=Text, replay_of=Text, replayed_as=Text, attempts=Integer,
    raw_full_bytes=BigInteger, raw_sha256=Text, key_full_bytes=BigInteger, key_sha256=Text, headers=JSONB,
)  # fmt: skip

_REVIEW_COLUMNS: dict[str, Any] = {
    "record": BigInteger, "review_id": Text, "text": Text, "product": Text, "source": Text,
    "stars": SmallInteger, "published_at": _TIME, "received_at": _TIME, "timestamp_ms": BigInteger,
    "stars_given": Double, "stated_published_at": _TIME, "attributes": JSONB,
}  # fmt: skip
# Every version of every review, but those that were withdrawn later.
published_review = _view("published_review", **_REVIEW_COLUMNS)
# The newest version of every review, unless it was withdrawn.
current_review = _view("current_review", **_REVIEW_COLUMNS)

# The active adapter of each task.
active_adapter = _view(
    "active_adapter",
    task=Text, activation_id=Integer, adapter_id=Integer, version=Text, labels=ARRAY(Text),
    activated_at=_TIME,
)  # fmt: skip

# The latest answer of each person has one vote, "unsure" and an undone answer none. The most votes win; a
# tie, or "unsure" alone, is NULL. Models have none. Migration 0032 has the query.
label_consensus = _view(
    "label_consensus",
    record=BigInteger, task=Text, label=Text, agreeing=BigInteger, answers=BigInteger, labelled_at=_TIME,
)  # fmt: skip

# The same of models, about whatever they answered.
model_consensus = _view(
    "model_consensus",
    record=BigInteger, task=Text, label=Text, agreeing=BigInteger, answers=BigInteger, labelled_at=_TIME,
)  # fmt: skip
