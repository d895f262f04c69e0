"""The annotation queue: its items, what annotators did with them, and the guidelines."""

from sqlalchemy import (
    REAL,
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    Uuid,
    func,
)

from storage.schema.columns import TIME, lease_columns, metadata, moment

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
    moment("queued_at", now=True),
    moment("state_changed_at", now=True),
    Column("training_run_id", Integer),
    *lease_columns(),
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
    moment("skipped_at", now=True),
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
    Column("acted_at", TIME, nullable=False, server_default=func.clock_timestamp()),
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

# What annotators are told, as Markdown.
guideline = Table(
    "guideline",
    metadata,
    Column("task", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("text", Text, nullable=False),
    Column("written_by", Text, nullable=False),
    Column("written_at", TIME, nullable=False, server_default=func.clock_timestamp()),
)
