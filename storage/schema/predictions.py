"""What adapters said of reviews: the predictions, those before them, and the vectors that were kept."""

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, LargeBinary, Table, Text

from storage.schema.columns import metadata, moment, score_columns

UNCERTAIN_MARGIN = 0.2  # the index of uncertain predictions holds those whose two best labels are closer

prediction = Table(
    "prediction",
    metadata,
    Column("record", BigInteger, primary_key=True, autoincrement=False),
    Column("task", Text, primary_key=True),
    Column("adapter_id", Integer, nullable=False),
    *score_columns(),
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
    *score_columns(),
    moment("kept_at", now=True),
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
