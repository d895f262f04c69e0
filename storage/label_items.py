"""Scored reviews to be labelled elsewhere, with what the model says about each."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, ColumnElement, and_, exists, literal_column, select

from storage.database import Database
from storage.schema import UNCERTAIN_MARGIN, adapter, label, label_task, prediction, review
from storage.versions import is_superseded


@dataclass(frozen=True, slots=True)
class ItemFilter:
    """Which current reviews to take; None means any.

    Attributes:
        task: The task to be decided.
        queued: Only what waits in the queue, the most urgent first.
        unlabelled: Only what nobody has labelled.
        label: The model's label.
        product: The product, exactly.
        source: The source, exactly.
        since: Scored at or after this moment.
        until: Scored before this moment.
        uncertain: Only predictions whose two best labels are close.
        limit: At most so many; None for all of them.
    """

    task: str
    queued: bool = False
    unlabelled: bool = False
    label: str | None = None
    product: str | None = None
    source: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    uncertain: bool = False
    limit: int | None = None


def find_items(database: Database, wanted: ItemFilter) -> Iterator[dict[str, Any]]:
    """The reviews that match: by priority where they are queued, else the latest scored first.

    Yields:
        One mapping per review: record, review_id, text, product, source, published_at, label, confidence,
        margin and adapter_version. What people said is not among it: nobody sees it before their own answer.

    Raises:
        Unavailable: If the database does not answer.
    """
    open_task = and_(
        label_task.c.record == prediction.c.record,
        label_task.c.task == prediction.c.task,
        label_task.c.state == "open",
    )
    query = (
        select(
            review.c.record,
            review.c.review_id,
            review.c.text,
            review.c.product,
            review.c.source,
            review.c.published_at,
            prediction.c.label,
            prediction.c.confidence,
            prediction.c.margin,
            adapter.c.version.label("adapter_version"),
        )
        .select_from(prediction)
        .join(review, review.c.record == prediction.c.record)
        .join(adapter, adapter.c.id == prediction.c.adapter_id)
        .where(*_conditions(wanted))
    )
    if wanted.queued:
        query = query.join(label_task, open_task).order_by(label_task.c.priority.desc(), label_task.c.record)
    else:
        query = query.order_by(prediction.c.scored_at.desc(), prediction.c.record)
    if wanted.limit is None:
        rows = database.stream(query)
    else:
        with database.begin() as connection:  # nothing is held while somebody reads
            rows = iter(connection.execute(query.limit(wanted.limit)).all())
    for row in rows:
        yield row._asdict()


def _conditions(wanted: ItemFilter) -> Iterator[ColumnElement[bool]]:
    yield prediction.c.task == wanted.task
    yield literal_column(f"NOT {is_superseded('review')}", Boolean)
    equal = {
        prediction.c.label: wanted.label,
        review.c.product: wanted.product,
        review.c.source: wanted.source,
    }
    for column, value in equal.items():
        if value is not None:
            yield column == value
    if wanted.unlabelled:
        yield ~exists().where(label.c.record == prediction.c.record, label.c.task == prediction.c.task)
    if wanted.since is not None:
        yield prediction.c.scored_at >= wanted.since
    if wanted.until is not None:
        yield prediction.c.scored_at < wanted.until
    if wanted.uncertain:
        yield prediction.c.margin < UNCERTAIN_MARGIN
