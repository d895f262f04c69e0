"""The views. `scored_reviews` and `dead_letters` are the public contract."""

from typing import Any

from sqlalchemy import (
    ARRAY,
    REAL,
    BigInteger,
    Boolean,
    Column,
    Double,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import JSONB

from storage.schema.columns import TIME

# Apart, so that `metadata` holds tables only.
views = MetaData()


def _view(name: str, **columns: Any) -> Table:
    return Table(name, views, *(Column(column, type_) for column, type_ in columns.items()))


scored_reviews = _view(
    "scored_reviews",
    review_id=Text, text=Text, product=Text, source=Text, published_at=TIME,
    task=Text, label=Text, confidence=REAL, probabilities=ARRAY(REAL), margin=REAL, entropy=REAL,
    truncated=Boolean, adapter_version=Text, scored_at=TIME, human_label=Text,
    kafka_topic=Text, kafka_partition=Integer, kafka_offset=BigInteger,
    adapter_id=Integer, stars=Double, label_probabilities=JSONB, stated_published_at=TIME,
    record=BigInteger, attributes=JSONB,
)  # fmt: skip

dead_letters = _view(
    "dead_letters",
    kafka_topic=Text, kafka_partition=Integer, kafka_offset=BigInteger,
    stage=Text, error=Text, message=Text, raw=LargeBinary, state=Text, received_at=TIME, key=LargeBinary,
    state_changed_at=TIME, state_reason=Text, replay_of=Text, replayed_as=Text, attempts=Integer,
    raw_full_bytes=BigInteger, raw_sha256=Text, key_full_bytes=BigInteger, key_sha256=Text, headers=JSONB,
)  # fmt: skip

_REVIEW_COLUMNS: dict[str, Any] = {
    "record": BigInteger, "review_id": Text, "text": Text, "product": Text, "source": Text,
    "stars": SmallInteger, "published_at": TIME, "received_at": TIME, "timestamp_ms": BigInteger,
    "stars_given": Double, "stated_published_at": TIME, "attributes": JSONB,
}  # fmt: skip
# Every version of every review, but those that were withdrawn later.
published_review = _view("published_review", **_REVIEW_COLUMNS)
# The newest version of every review, unless it was withdrawn.
current_review = _view("current_review", **_REVIEW_COLUMNS)

# The active adapter of each task.
active_adapter = _view(
    "active_adapter",
    task=Text, activation_id=Integer, adapter_id=Integer, version=Text, labels=ARRAY(Text),
    activated_at=TIME,
)  # fmt: skip

# The latest answer of each person has one vote, "unsure" and an undone answer none. The most votes win; a
# tie, or "unsure" alone, is NULL. Models have none. Migration 0032 has the query.
label_consensus = _view(
    "label_consensus",
    record=BigInteger, task=Text, label=Text, agreeing=BigInteger, answers=BigInteger, labelled_at=TIME,
)  # fmt: skip

# The same of models, about whatever they answered.
model_consensus = _view(
    "model_consensus",
    record=BigInteger, task=Text, label=Text, agreeing=BigInteger, answers=BigInteger, labelled_at=TIME,
)  # fmt: skip
