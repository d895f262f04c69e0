"""Labels: answers of people, programs and models, those that wait for a review, and sets of labels."""

from typing import Any

from sqlalchemy import (
    ARRAY,
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from storage.schema.columns import TIME, metadata, moment

BY_PEOPLE = "NOT starts_with(annotator, 'model:')"
"""SQL that is true of an answer in ``label`` of a person, or of a program that speaks for one."""
BY_MODELS = "starts_with(annotator, 'model:')"
"""SQL that is true of an answer of a model."""


def _answer_columns() -> tuple[Column[Any], ...]:
    """What was answered, without a label: "unsure"; ``origin`` is the record of the labels topic with it."""
    return (
        Column("task", Text, nullable=False),
        Column("label", Text),
        Column("annotator", Text, nullable=False),
        Column("source", Text, nullable=False),
        moment("labelled_at"),
        moment("received_at", now=True),
        Column("origin", BigInteger),
        Column("seconds", REAL),  # that the answer took; NULL where nobody measured it
    )


# An answer of a person or an import; without a label: "unsure". `origin` is the record of the labels topic
# that brought it, which makes a label from there one row and not two.
label = Table(
    "label",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("record", BigInteger, nullable=False),
    *_answer_columns(),
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
    Column("declared_at", TIME, nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint("kind IN ('first', 'rename', 'merge', 'split', 'add')", name="kind"),
)

waiting_label = Table(
    "waiting_label",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("review_id", Text, nullable=False),
    *_answer_columns(),
    moment("look_at", now=True),  # when its review is looked for next
)
Index("waiting_label_origin_idx", waiting_label.c.origin, unique=True)
Index("waiting_label_review_idx", waiting_label.c.review_id)
Index("waiting_label_look_idx", waiting_label.c.look_at)

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
    Column("changed_at", TIME),
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
