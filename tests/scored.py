"""Scored reviews for tests, from what matters in them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from reviews.message import ReviewMessage
from reviews.prediction import Prediction
from reviews.stream_records import AcceptedReview, KeptEmbedding, ScoredReview


def scored_review(  # noqa: PLR0917  in the order of the table's columns
    offset: int,
    review_id: str,
    text: str,
    product: str | None,
    source: str | None,
    stars: float | None,
    published_at: datetime,
    received_at: datetime,
    predictions: tuple[Prediction, ...],
    *,
    kept: Sequence[KeptEmbedding] = (),
    shadows: Sequence[Prediction] = (),
    timestamp_ms: int = -1,
    stated_at: datetime | None = None,
    raw: bytes | None = None,
    **record: Any,
) -> ScoredReview:
    """A review of any content, also of one that no message could have."""
    message = ReviewMessage.model_construct(
        id=review_id, text=text, product=product, source=source, stars=stars, published_at=published_at
    )
    review = AcceptedReview(
        offset,
        message,
        published_at,
        received_at,
        raw,
        record.pop("key", None),
        arrived_ms=timestamp_ms,
        stated_at=stated_at,
        **record,
    )
    return ScoredReview(review, predictions, tuple(kept), tuple(shadows))
