"""The stream: partitions with their offsets, and what their records became.

The hot tables (review, prediction, dead_letter) have no foreign keys: one transaction writes them and
moves the offset, and a check for each row would cost a lookup in the table just written.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    false,
)
from sqlalchemy.dialects.postgresql import JSONB

from storage.schema.columns import TIME, metadata, moment

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
    moment("created_at", now=True),
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
    moment("found_at", now=True),
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
    moment("published_at"),
    moment("received_at"),
    # Kafka's time, or that of receipt where it has none; -1 where a version of this program wrote the row
    # that did not keep it.
    Column("timestamp_ms", BigInteger, nullable=False, server_default="-1"),
    Column("stars_given", Double),  # where they are not whole
    Column("stated_published_at", TIME),  # where it lay in the time to come
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
    moment("received_at"),
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
    moment("received_at"),
    Column("timestamp_ms", BigInteger),
    Column("replay_of", BigInteger),  # the first attempt's record
    Column("replayed_as", BigInteger),  # the record that was accepted in its place
    Column("state_changed_at", TIME),
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
