"""The tables, as SQLAlchemy sees them; migrations make them, and a test holds that both agree.

The hot tables (review, prediction, dead_letter) have no foreign keys: one transaction writes them and
moves the offset, and a check for each row would cost a lookup in the table just written.
"""

from sqlalchemy import (
    ARRAY,
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
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
    false,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB

UNCERTAIN_MARGIN = 0.2  # the index of uncertain predictions holds those whose two best labels are closer

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)


def _moment(name: str, *, now: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now() if now else None)


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

review = Table(
    "review",
    metadata,
    Column("record", BigInteger, primary_key=True, autoincrement=False),
    Column("review_id", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("product", Text),
    Column("source", Text),
    Column("stars", SmallInteger),
    _moment("published_at"),
    _moment("received_at"),
)
Index("review_current_idx", review.c.review_id, review.c.published_at, review.c.record)
Index("review_product_idx", review.c.product)
Index("review_source_idx", review.c.source)

prediction = Table(
    "prediction",
    metadata,
    Column("record", BigInteger, primary_key=True, autoincrement=False),
    Column("task", Text, primary_key=True),
    Column("adapter_id", Integer, nullable=False),
    Column("label", Text, nullable=False),
    Column("confidence", REAL, nullable=False),
    Column("probabilities", ARRAY(REAL), nullable=False),
    Column("margin", REAL, nullable=False),
    Column("entropy", REAL, nullable=False),
    Column("truncated", Boolean, nullable=False),
    _moment("scored_at"),
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
    Column("state_changed_at", DateTime(timezone=True)),
    Column("state_reason", Text),
    Column("to_forward", Boolean, nullable=False, server_default=false()),
    CheckConstraint("state IN ('waiting', 'replayed', 'discarded')", name="state"),
)
Index(
    "dead_letter_replay_idx", dead_letter.c.replay_of, postgresql_where=dead_letter.c.replay_of.is_not(None)
)
Index("dead_letter_forward_idx", dead_letter.c.record, postgresql_where=dead_letter.c.to_forward)
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
    UniqueConstraint("task", "replaces", postgresql_nulls_not_distinct=True),
)

label = Table(
    "label",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("record", BigInteger, nullable=False),
    Column("task", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("annotator", Text, nullable=False),
    Column("source", Text, nullable=False),
    _moment("labelled_at"),
)
Index("label_record_idx", label.c.record, label.c.task, label.c.labelled_at)

# The views are the public contract; they stand apart so that `metadata` holds tables only.
_views = MetaData()

scored_reviews = Table(
    "scored_reviews",
    _views,
    Column("review_id", Text),
    Column("text", Text),
    Column("product", Text),
    Column("source", Text),
    Column("published_at", DateTime(timezone=True)),
    Column("task", Text),
    Column("label", Text),
    Column("confidence", REAL),
    Column("probabilities", ARRAY(REAL)),
    Column("margin", REAL),
    Column("entropy", REAL),
    Column("truncated", Boolean),
    Column("adapter_version", Text),
    Column("scored_at", DateTime(timezone=True)),
    Column("human_label", Text),
    Column("kafka_topic", Text),
    Column("kafka_partition", Integer),
    Column("kafka_offset", BigInteger),
    Column("adapter_id", Integer),
)

dead_letters = Table(
    "dead_letters",
    _views,
    Column("kafka_topic", Text),
    Column("kafka_partition", Integer),
    Column("kafka_offset", BigInteger),
    Column("stage", Text),
    Column("error", Text),
    Column("message", Text),
    Column("raw", LargeBinary),
    Column("state", Text),
    Column("received_at", DateTime(timezone=True)),
    Column("key", LargeBinary),
    Column("state_changed_at", DateTime(timezone=True)),
    Column("state_reason", Text),
    Column("replay_of", Text),
    Column("replayed_as", Text),
)
