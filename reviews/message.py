"""The message format of the reviews topic."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from reviews.errors import InvalidMessage
from reviews.fields import Id, Moment, OptionalName, Stars, Text
from reviews.record_value import RecordParser

PLAIN_TEXT = "It works as it should."
"""A text that every model and every database takes, to tell a broken record from a broken service."""


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


class _Identified(BaseModel):
    """The id alone, of a message that may be invalid as a review."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, hide_input_in_errors=True)

    id: Id


_PARSER = RecordParser(ReviewMessage, "a review", '{"id": "1", "text": "Good."}')
_ID_PARSER = RecordParser(_Identified, "a review", '{"id": "1", "text": "Good."}')


def parse_review(raw: bytes | None, max_bytes: int | None = None) -> ReviewMessage:
    """A review from the raw value of one Kafka record.

    Args:
        raw: UTF-8 JSON, with or without a byte order mark; None is a tombstone.
        max_bytes: Longer values are refused; None takes any length.

    Raises:
        InvalidMessage: With a reason to count by and a sentence that never quotes the input.
    """
    return _PARSER.parse(raw, max_bytes)


def message_key(raw: bytes) -> bytes | None:
    """The key that keeps a message in order with the versions of its review; None where it has no id.

    Args:
        raw: A message as it is published, also one that is no review for a reason other than its id.
    """
    try:
        return _ID_PARSER.parse(raw).id.encode()
    except InvalidMessage:
        return None


def review_from_fields(fields: dict[str, Any]) -> ReviewMessage | None:
    """A review from fields that were read already; None where they make none.

    Saves the way through JSON where all is well; :func:`parse_review` of that JSON says what is wrong.
    """
    try:
        return _PARSER.from_fields(fields)
    except InvalidMessage:
        return None


def build_review(fields: dict[str, Any]) -> ReviewMessage:
    """A review from fields that were read already; others than those of a review are ignored.

    Raises:
        InvalidMessage: If they make none.
    """
    return _PARSER.from_fields(fields)
