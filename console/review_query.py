"""Filters of reviews in an address: what a page is asked for, a download, and the API, in the same words."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from console.api.paging import from_cursor, to_cursor
from console.parts import ConsoleParts
from reviews.errors import WrongUse
from reviews.moments import parse_moment
from storage.adapters.registry import AdapterStore
from storage.queries.filters import MOST_ATTRIBUTES, ReviewFilter, parse_attributes
from storage.queries.review_pages import ReviewPlace

_LONGEST = 512


def _nothing_if_empty(value: object) -> object:
    """An empty field of a form asks for nothing."""
    return None if isinstance(value, str) and not value.strip() else value


def _without_empty(value: object) -> object:
    return tuple(one for one in value if one) if isinstance(value, list | tuple) else value


def _whether(value: object) -> object:
    return False if value in {None, ""} else value


Words = Annotated[Annotated[str, Field(max_length=_LONGEST)] | None, BeforeValidator(_nothing_if_empty)]
Attributes = Annotated[
    tuple[Annotated[str, Field(max_length=_LONGEST)], ...],
    BeforeValidator(_without_empty),
    Field(max_length=MOST_ATTRIBUTES),
]
Share = Annotated[Annotated[float, Field(ge=0, le=1)] | None, BeforeValidator(_nothing_if_empty)]


class ReviewQuery(BaseModel):
    """The filters of ``reviewloop query``, and what people said."""

    model_config = ConfigDict(extra="ignore", frozen=True, str_strip_whitespace=True)

    task: Words = Field(default=None, description="The task; the first configured one where it is missing.")
    text: Words = Field(default=None, description="A part of the text, in any case of letters.")
    label: Words = Field(default=None, description="The model's label.")
    product: Words = Field(default=None, description="The product, exactly.")
    source: Words = Field(default=None, description="The source, exactly.")
    since: Words = Field(default=None, description="Scored since: ISO 8601, or an age such as 24h.")
    until: Words = Field(default=None, description="Scored before: ISO 8601, or an age such as 24h.")
    min_confidence: Share = Field(default=None, description="Least confidence.")
    uncertain: Annotated[bool, BeforeValidator(_whether)] = Field(
        default=False, description="Only where the two best labels are close."
    )
    adapter: Words = Field(default=None, description="The adapter's version, or its beginning.")
    id: Words = Field(default=None, description="The publisher's id.")
    human: Annotated[Literal["labelled", "differs"] | None, BeforeValidator(_nothing_if_empty)] = Field(
        default=None,
        description="`labelled`: people agree on a label; `differs`: on another one than the model's. "
        "Looked for among the latest answers.",
    )

    attribute: Attributes = Field(
        default=(),
        description="`NAME=VALUE` of an attribute that the review's source keeps; may be repeated.",
    )

    def to_filter(self, parts: ConsoleParts, limit: int) -> ReviewFilter:
        """The filter of the database.

        Raises:
            WrongUse: If a time or an attribute cannot be read, or no adapter has that name.
        """
        adapter = AdapterStore(parts.database).find(self.adapter).version if self.adapter else None
        return ReviewFilter(
            task=self.task or parts.tasks[0],
            label=self.label,
            product=self.product,
            source=self.source,
            since=parse_moment(self.since),
            until=parse_moment(self.until),
            min_confidence=self.min_confidence,
            uncertain=self.uncertain,
            adapter=adapter,
            text=self.text,
            review_id=self.id,
            human=self.human,
            attributes=parse_attributes(self.attribute),
            limit=limit,
        )

    def address(self, path: str, **further: Any) -> str:
        """The address of a page with these filters, which can be sent to somebody."""
        given = {**self.model_dump(exclude_defaults=True, exclude_none=True), **further}
        shown = {name: "true" if value is True else value for name, value in given.items() if value}
        return f"{path}?{urlencode(shown, doseq=True)}" if shown else path


@dataclass(frozen=True, slots=True)
class FieldChoice:
    """A field of the form with its choices.

    Attributes:
        value: As it is in the address.
        title: What people read.
    """

    value: str
    title: str


HUMAN = (
    FieldChoice("", "any"),
    FieldChoice("labelled", "people labelled it"),
    FieldChoice("differs", "people say something else"),
)


def to_place(cursor: str | None) -> ReviewPlace | None:
    """Where a page goes on.

    Raises:
        WrongUse: If it is no cursor of reviews.
    """
    position = from_cursor(cursor, (str, int, str))
    if position is None:
        return None
    try:
        moment = datetime.fromisoformat(position[0])
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or not 0 <= position[1] < 2**63:
        raise WrongUse("The cursor is not one of this list: leave it out to begin anew.")
    return ReviewPlace(moment, position[1], position[2])


def to_reviews_cursor(place: ReviewPlace | None) -> str | None:
    """A place as programs and addresses pass it on; None at the end."""
    return None if place is None else to_cursor(place.scored_at.isoformat(), place.record, place.task)
