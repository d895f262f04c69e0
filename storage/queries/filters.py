"""Filters of reviews: what may be asked for, and the conditions that it becomes, with bound parameters."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Column, ColumnElement, ScalarSelect, func, or_, select

from reviews.errors import WrongUse
from reviews.fields import MODEL_PREFIX
from storage.database import Database
from storage.queries.text_index import SHORTEST_CHARACTERS, has_text_index, holds_trigrams
from storage.schema.adapters import adapter
from storage.schema.labels import label
from storage.schema.predictions import UNCERTAIN_MARGIN
from storage.schema.views import label_consensus, scored_reviews

LATEST_ANSWERS = 1_000
"""Reviews that people labelled are looked for among so many of the latest answers."""
MOST_ATTRIBUTES = 10
"""So many attributes may be asked for at once."""

HumanFilter = Literal["labelled", "differs"]
"""Reviews that people labelled; or only those where they agree on another label than the model's."""


@dataclass(frozen=True, slots=True)
class ReviewFilter:
    """Which scored reviews to return; None means any.

    Attributes:
        task: The task that was decided.
        label: The model's label.
        product: The product, exactly.
        source: The source, exactly.
        since: Scored at or after this moment.
        until: Scored before this moment.
        min_confidence: Least confidence, in [0, 1].
        uncertain: Only predictions whose two best labels are less than 0.2 apart.
        adapter: The adapter's version.
        text: A part of the text, in any case of letters.
        review_id: The publisher's id.
        human: What people said, among the latest answers.
        attributes: Names and values of attributes that it has; a value is a text, or a number, true or false
            that is written so.
        limit: At most so many, the latest scored first; None for all of them.
    """

    task: str | None = None
    label: str | None = None
    product: str | None = None
    source: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    min_confidence: float | None = None
    uncertain: bool = False
    adapter: str | None = None
    text: str | None = None
    review_id: str | None = None
    human: HumanFilter | None = None
    attributes: tuple[tuple[str, str], ...] = ()
    limit: int | None = 20


def parse_attributes(written: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Names and values of attributes from ``NAME=VALUE``.

    Raises:
        WrongUse: If one is not written so, or there are too many.
    """
    if len(written) > MOST_ATTRIBUTES:
        raise WrongUse(f"{len(written)} attributes are asked for; at most {MOST_ATTRIBUTES} can be.")
    found = []
    for pair in written:
        name, equals, value = pair.partition("=")
        if not name or not equals or "\x00" in pair:
            raise WrongUse("Write an attribute as NAME=VALUE, such as market=de.")
        found.append((name, value))
    return tuple(found)


def conditions(database: Database, wanted: ReviewFilter) -> list[ColumnElement[bool]]:
    """What a filter asks of the view ``scored_reviews``, but for its limit."""
    columns = scored_reviews.c
    equal = {
        columns.label: wanted.label,
        columns.product: wanted.product,
        columns.source: wanted.source,
        columns.review_id: wanted.review_id,
    }
    found = matching(equal, columns.scored_at, wanted.since, wanted.until)
    if wanted.min_confidence is not None:
        found.append(columns.confidence >= wanted.min_confidence)
    if wanted.uncertain:
        found.append(columns.margin < UNCERTAIN_MARGIN)
    if wanted.human is not None:
        found += _by_human(wanted)
    if wanted.text is not None:
        found.append(columns.text.icontains(wanted.text, autoescape=True))
    found += attribute_conditions(columns.attributes, wanted)
    return found + _by_adapter(database, wanted)


def _by_adapter(database: Database, wanted: ReviewFilter) -> list[ColumnElement[bool]]:
    """Task and adapter as numbers: by their names, PostgreSQL cannot follow an index in its order."""
    if wanted.task is None and wanted.adapter is None:
        return []
    query = select(adapter.c.id)
    if wanted.task is not None:
        query = query.where(adapter.c.task == wanted.task)
    if wanted.adapter is not None:
        query = query.where(adapter.c.version == wanted.adapter)
    ids = database.fetch_values(query)
    return [scored_reviews.c.adapter_id.in_(ids)]


def _by_human(wanted: ReviewFilter) -> Iterator[ColumnElement[bool]]:
    columns = scored_reviews.c
    by_people = ~func.starts_with(label.c.annotator, MODEL_PREFIX)
    latest = select(label.c.record).where(by_people)
    latest = latest.order_by(label.c.received_at.desc()).limit(LATEST_ANSWERS)
    if wanted.task is not None:
        latest = latest.where(label.c.task == wanted.task)
    agreed = agreed_label()
    yield columns.record.in_(latest)
    yield agreed != columns.label if wanted.human == "differs" else agreed.is_not(None)


def agreed_label() -> ScalarSelect[Any]:
    """What people agree on about a row of ``scored_reviews``: the same as its column ``human_label``.

    The view asks first whether there is a label at all, which PostgreSQL answers for more than a few reviews
    by reading all labels.
    """
    return (
        select(label_consensus.c.label)
        .where(
            label_consensus.c.record == scored_reviews.c.record,
            label_consensus.c.task == scored_reviews.c.task,
        )
        .scalar_subquery()
    )


def attribute_conditions(column: ColumnElement[Any], wanted: ReviewFilter) -> list[ColumnElement[bool]]:
    """That a column of attributes has those that are wanted."""
    return [
        or_(*(column.contains({name: meant}) for meant in _meanings(value)))
        for name, value in wanted.attributes
    ]


def _meanings(value: str) -> list[Any]:
    """What a written value may mean: the text, and a number, true or false."""
    try:
        read = json.loads(value, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        read = None
    return [value, read] if isinstance(read, bool | int | float) else [value]


def index_conditions(database: Database, wanted: ReviewFilter) -> list[ColumnElement[bool]] | None:
    """What an index has to be asked beside :func:`conditions`; None where none finds what is wanted.

    There is always one of attributes, and one of texts on request.
    """
    if may_use_text_index(database, wanted):
        return [holds_trigrams(wanted.text or "")]
    return [] if wanted.attributes and wanted.text is None else None


def may_use_text_index(database: Database, wanted: ReviewFilter) -> bool:
    """Whether the index on texts is there, and finds a part as long as this one."""
    if wanted.text is None or len(wanted.text) < SHORTEST_CHARACTERS:
        return False
    with database.begin() as connection:
        return has_text_index(connection)


def matching(
    equal: Mapping[Column[Any], Any],
    moment: ColumnElement[datetime],
    since: datetime | None,
    until: datetime | None,
) -> list[ColumnElement[bool]]:
    """That columns have these values and a moment is in [since, until); None means any."""
    conditions = [column == value for column, value in equal.items() if value is not None]
    if since is not None:
        conditions.append(moment >= since)
    if until is not None:
        conditions.append(moment < until)
    return conditions
