"""Scored reviews for programs."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict

from console.access import Parts, Viewer
from console.api.paging import Cursor, Limit, Piece
from console.problems import Missing
from console.review_query import ReviewQuery, to_place, to_reviews_cursor
from storage.queries.review_history import find_history, find_versions
from storage.queries.review_pages import find_page
from storage.queries.similar import find_similar

router = APIRouter(tags=["reviews"])


class ApiReview(BaseModel):
    """The current version of a review, scored for one task."""

    model_config = ConfigDict(from_attributes=True)

    review_id: str
    text: str
    product: str | None
    source: str | None
    stars: float | None
    published_at: datetime
    task: str
    label: str
    confidence: float
    label_probabilities: dict[str, float] | None
    margin: float
    truncated: bool
    adapter_version: str
    scored_at: datetime
    human_label: str | None
    kafka_topic: str
    kafka_partition: int
    kafka_offset: int
    record: int
    attributes: dict[str, Any] | None


class ApiReviews(Piece[ApiReview]):
    """Reviews, the latest scored first.

    Attributes:
        searched: How many texts were searched, where that ended before the piece was full: go on with `next`.
    """

    searched: int | None = None


class ApiVersion(BaseModel):
    """One version of a review."""

    model_config = ConfigDict(from_attributes=True)

    record: int
    text: str
    product: str | None
    source: str | None
    stars: float | None
    published_at: datetime
    received_at: datetime
    is_withdrawn: bool
    attributes: dict[str, Any] | None


class ApiWithdrawal(BaseModel):
    """That the publisher withdrew a review; `kind` is delete or tombstone."""

    model_config = ConfigDict(from_attributes=True)

    record: int
    kind: str
    withdrawn_at: datetime
    received_at: datetime


class ApiVersionPrediction(BaseModel):
    """What one adapter says of one version; `kind` is current, replaced or shadow."""

    model_config = ConfigDict(from_attributes=True)

    record: int
    task: str
    adapter_version: str
    label: str
    confidence: float
    probabilities: list[float]
    labels: list[str]
    scored_at: datetime
    kind: str


class ApiVersionAnswer(BaseModel):
    """What a person or an import said of one version; without a label: unsure, or taken back."""

    model_config = ConfigDict(from_attributes=True)

    record: int
    task: str
    label: str | None
    annotator: str
    source: str
    labelled_at: datetime


class ApiReviewHistory(BaseModel):
    """All that is stored of one review, the newest version first."""

    versions: list[ApiVersion]
    withdrawals: list[ApiWithdrawal]
    predictions: list[ApiVersionPrediction]
    answers: list[ApiVersionAnswer]


class ApiSimilar(BaseModel):
    """A review that is like another one."""

    model_config = ConfigDict(from_attributes=True)

    review_id: str
    text: str
    label: str
    confidence: float
    similarity: float


@router.get("/reviews")
def read_reviews(
    parts: Parts,
    _who: Viewer,
    asked: Annotated[ReviewQuery, Query()],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> ApiReviews:
    """The scored reviews that match, the latest scored first."""
    found = find_page(parts.database, asked.to_filter(parts, limit), to_place(cursor))
    return ApiReviews(
        items=[ApiReview(**row) for row in found.rows],
        next=to_reviews_cursor(found.end),
        searched=found.searched,
    )


@router.get("/reviews/one")
def read_review(
    parts: Parts, _who: Viewer, review: Annotated[str, Query(alias="id", max_length=256)]
) -> ApiReviewHistory:
    """All that is stored of one review."""
    found = find_history(parts.database, review)
    if found is None or not (found.versions or found.withdrawals):
        raise Missing(f"There is no review '{review}'.")
    return ApiReviewHistory(
        versions=[ApiVersion.model_validate(version) for version in found.versions],
        withdrawals=[ApiWithdrawal.model_validate(one) for one in found.withdrawals],
        predictions=[ApiVersionPrediction.model_validate(said) for said in found.predictions],
        answers=[ApiVersionAnswer.model_validate(said) for said in found.answers],
    )


@router.get("/reviews/like")
def read_reviews_like(
    parts: Parts,
    _who: Viewer,
    review: Annotated[str, Query(alias="id", max_length=256)],
    task: Annotated[str | None, Query(max_length=256)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> list[ApiSimilar]:
    """Reviews that are like one, the most similar first, among those whose embedding was kept."""
    versions = find_versions(parts.database, review)
    if not versions:
        raise Missing(f"There is no review '{review}'.")
    similar = find_similar(parts.database, task or parts.tasks[0], versions[0].record, limit)
    return [ApiSimilar.model_validate(one) for one in similar.reviews]
