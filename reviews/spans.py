"""Parts of a scored stream, and what is read of them."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from reviews.batch import KeepReason


@dataclass(frozen=True, slots=True)
class Span:
    """What one adapter scored between two moments.

    Attributes:
        task: The task.
        adapter_id: The adapter's number in the database.
        since: The first moment, inclusive (UTC, scoring time).
        until: The last moment, exclusive.
    """

    task: str
    adapter_id: int
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Promotion:
    """The adapter that serves a task.

    Attributes:
        task: The task.
        adapter_id: Its number in the database.
        version: Its public name.
        labels: Its labels in the order of the probabilities.
        activated_at: Since when it serves.
    """

    task: str
    adapter_id: int
    version: str
    labels: tuple[str, ...]
    activated_at: datetime


class StoredReview(NamedTuple):
    """One scored review, as drift and selection look at it.

    Attributes:
        record: The number that names it.
        review_id: The publisher's id.
        text: The body.
        product: What is reviewed.
        source: Where it comes from.
        published_at: When it was published.
        scored_at: When it was scored.
        probabilities: In the adapter's order of labels.
        truth: The label that people agreed on where the audit asked them; None where it did not, or they do
            not agree.
        vector: The embedding as little-endian float16; None where it was not kept.
        kept: Why it was kept.
    """

    record: int
    review_id: str
    text: str
    product: str | None
    source: str | None
    published_at: datetime
    scored_at: datetime
    probabilities: list[float]
    truth: str | None
    vector: bytes | None
    kept: KeepReason | None = None


class Course(NamedTuple):
    """What happened in one stretch of time.

    Attributes:
        starts_at: When it began.
        label: One of the labels.
        reviews: How many reviews got it.
        confidence: The mean confidence.
        characters: The mean length of the texts.
    """

    starts_at: datetime
    label: str
    reviews: int
    confidence: float
    characters: float
