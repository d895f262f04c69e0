"""Stored reviews as the columns that the measures want."""

from collections.abc import Iterable, Sequence
from datetime import datetime

import numpy as np

from drift.rows import UNKNOWN, Rows
from reviews.drift import StoredReview
from reviews.slices import SliceShares, slice_of

_BY_CHANCE = frozenset({"audit", "sample"})
_NEARLY_ALL = 0.99  # even where all are kept, those that are no numbers are not


def to_rows(reviews: Iterable[StoredReview], labels: Sequence[str], shares: SliceShares) -> Rows:
    """Columns, in the order given; embeddings of nearly all reviews, or else of those that chance chose.

    Args:
        reviews: Each is let go of once it is read.
        labels: The adapter's labels, in the order of the probabilities.
        shares: How large the audit slice is.
    """
    place = {label: number for number, label in enumerate(labels)}
    records: list[int] = []
    scored: list[int] = []
    published: list[int] = []
    texts: list[str] = []
    products: list[str | None] = []
    sources: list[str | None] = []
    probabilities: list[list[float]] = []
    truth: list[int] = []
    audited: list[bool] = []
    vectors: dict[int, bytes] = {}
    by_chance: list[int] = []
    for review in reviews:
        if review.vector is not None:
            vectors[len(records)] = review.vector
            if review.kept in _BY_CHANCE:
                by_chance.append(len(records))
        records.append(review.record)
        scored.append(to_microseconds(review.scored_at))
        published.append(int(review.published_at.timestamp()))
        texts.append(review.text)
        products.append(review.product)
        sources.append(review.source)
        probabilities.append(review.probabilities)
        truth.append(place.get(review.truth, UNKNOWN) if review.truth is not None else UNKNOWN)
        audited.append(slice_of(review.review_id, shares) == "audit")
    # Uncertain reviews are kept beside those that chance chose: all together are another stream.
    embedded = list(vectors) if len(vectors) >= _NEARLY_ALL * len(records) else by_chance
    return Rows(
        tuple(labels),
        np.array(records, np.int64),
        np.array(scored, np.int64),
        np.array(published, np.int64),
        texts,
        products,
        sources,
        np.array(probabilities, np.float32).reshape(-1, len(labels)),
        np.array(truth, np.int64),
        np.array(audited, np.bool_),
        _matrix([vectors[row] for row in embedded]),
        np.array(embedded, np.int64),
    )


def to_microseconds(moment: datetime) -> int:
    """Microseconds since 1970, exactly."""
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond


def _matrix(vectors: list[bytes]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """float32 (rows, hidden) from little-endian float16 rows of the same length."""
    if not vectors:
        return np.zeros((0, 0), np.float32)
    return np.frombuffer(b"".join(vectors), "<f2").reshape(len(vectors), -1).astype(np.float32)
