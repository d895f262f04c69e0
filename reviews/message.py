"""The publishing contract: what a record on the reviews topic must look like to become a review."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from reviews.fields import Id, Moment, OptionalName, Stars, Text
from reviews.json_record import RecordParser


class ReviewMessage(BaseModel):
    """A product review as a publisher sends it; unknown fields are ignored.

    Attributes:
        id: The publisher's name for the review; publishing it again replaces the current version.
        text: The body, with at least one visible character.
        product: What is reviewed.
        source: Where the review comes from.
        published_at: When it was published (UTC); where missing, Kafka's time of the record stands in.
        stars: The author's own rating.
    """

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, hide_input_in_errors=True)

    id: Id
    text: Text
    product: OptionalName = None
    source: OptionalName = None
    published_at: Moment = None
    stars: Stars = None


_PARSER = RecordParser(ReviewMessage, "a review", '{"id": "1", "text": "Good."}')


def parse_review(raw: bytes | None, max_bytes: int | None = None) -> ReviewMessage:
    """A review from the raw value of one Kafka record.

    Args:
        raw: UTF-8 JSON, with or without a byte order mark; None is a tombstone.
        max_bytes: Longer values are refused; None takes any length.

    Raises:
        InvalidMessage: With a reason to count by and a sentence that never quotes the input.
    """
    return _PARSER.parse(raw, max_bytes)


def review_from_fields(fields: dict[str, Any]) -> ReviewMessage | None:
    """A review from fields that somebody read already; None where they make none, for whatever reason.

    Saves the way through JSON where all is well; :func:`parse_review` of that JSON says what is wrong.
    """
    return _PARSER.from_fields(fields)
