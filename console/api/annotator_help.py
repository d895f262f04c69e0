"""What helps annotators, below ``/api/v1/labels``: progress, what is lacking, similar reviews, words."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel

from console.access import Annotator, Parts
from console.api.labelling import LARGEST_NUMBER, LONGEST_NAME, queue_of, task_of
from console.highlighting import telling_words
from console.parts import ConsoleParts
from console.remembered import Remembered
from reviews.sanitise import sanitise
from storage.labels.actions import done_actions
from storage.labels.progress import (
    answered_since,
    consistency,
    labelled_by_slice,
    median_seconds,
    newest_scored,
)
from storage.labels.store import LabelStore
from storage.queries.similar import find_similar

router = APIRouter(prefix="/labels", tags=["labels"])

MOST_LEFT = 1_000
"""Items that are left are counted up to so many."""
_MOST_SIMILAR = 5
_LEAST_SIMILARITY = 0.7
_LONGEST_TEXT = 2_000
_UNDO_SECONDS = 12 * 3600.0
_MOST_UNDONE = 1_000
_SCORED_FOR_WORDS = 1_000
_FEW_ANSWERS, _MANY_ANSWERS = 1_000, 20_000
_NEEDS = Remembered["list[MissingLabels]"](30)
_WORDS = Remembered["dict[str, list[str]]"](600)
Record = Annotated[int, Query(ge=0, le=LARGEST_NUMBER)]
Task = Annotated[str | None, Query(max_length=LONGEST_NAME)]


class UndoableAction(BaseModel):
    """An answer or a skip that can be taken back.

    Attributes:
        id: The action's.
        kind: ``answer`` or ``skip``.
        record: The record.
        label: Of an answer.
    """

    id: UUID
    kind: str
    record: int
    label: str | None


class AnnotatorProgress(BaseModel):
    """How far an annotator is.

    Attributes:
        today: Answers since midnight (UTC).
        left: Items that are left, counted up to 1,000.
        repeated: So many of the latest answers were about a review that was answered before.
        same: So many of those were the same answer.
        median_seconds: So long the middle one of the latest answers took; null where none has a time.
        done: Of the last twelve hours, what can be taken back, the latest last.
    """

    today: int
    left: int
    repeated: int
    same: int
    median_seconds: float | None
    done: list[UndoableAction]


class MissingLabels(BaseModel):
    """What a purpose lacks.

    Attributes:
        purpose: Such as ``to judge by``.
        more: So many more labelled reviews.
        classes: Of which labels at least.
    """

    purpose: str
    more: int
    classes: dict[str, int]


class UnlabelledReview(BaseModel):
    """A review that is like another and that nobody has labelled.

    Attributes:
        record: Its record.
        review_id: The publisher's id.
        text: Its beginning.
        product: What it is about.
        similarity: The cosine of the embeddings.
    """

    record: int
    review_id: str
    text: str
    product: str | None
    similarity: float


@router.get("/progress")
def read_progress(parts: Parts, actor: Annotator, task: Task = None) -> AnnotatorProgress:
    """How far this annotator is, and what can be taken back."""
    wanted = task_of(parts, task)
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    own = consistency(parts.database, wanted, actor.name)
    done = done_actions(parts.database, wanted, actor.name, seconds=_UNDO_SECONDS, most=_MOST_UNDONE)
    return AnnotatorProgress(
        today=answered_since(parts.database, wanted, actor.name, midnight),
        left=queue_of(parts, actor, wanted).left(MOST_LEFT),
        repeated=own.repeated,
        same=own.same,
        median_seconds=median_seconds(parts.database, wanted, actor.name),
        done=[UndoableAction(id=one.id, kind=one.kind, record=one.record, label=one.label) for one in done],
    )


@router.get("/needs")
def read_needs(parts: Parts, _: Annotator, task: Task = None) -> list[MissingLabels]:
    """What a training run and the gate lack, at most half a minute old."""
    wanted = task_of(parts, task)
    return _NEEDS.get((parts.database.place, wanted), lambda: _needs(parts, wanted))


def _needs(parts: ConsoleParts, task: str) -> list[MissingLabels]:
    """What is lacking, among few answers or, where something is lacking there, among many."""
    return _missing(parts, task, _FEW_ANSWERS) and _missing(parts, task, _MANY_ANSWERS)


def _missing(parts: ConsoleParts, task: str, most: int) -> list[MissingLabels]:
    counts = labelled_by_slice(parts.database, task, parts.shares, most)
    vocabulary = LabelStore(parts.database).vocabulary(task)
    names = vocabulary.ordered if vocabulary else ()
    lacking = []
    for need in parts.label_needs:
        found = need.lacking({name: sum(counts[part].get(name, 0) for part in need.slices) for name in names})
        if found.more:
            lacking.append(MissingLabels(purpose=need.purpose, more=found.more, classes=dict(found.classes)))
    return lacking


@router.get("/similar")
def read_similar(parts: Parts, _: Annotator, record: Record, task: Task = None) -> list[UnlabelledReview]:
    """Unlabelled reviews that are like one, by stored embeddings, the most similar first."""
    found = find_similar(parts.database, task_of(parts, task), record, _MOST_SIMILAR, unlabelled=True)
    return [
        UnlabelledReview(
            record=one.record,
            review_id=sanitise(one.review_id),
            text=sanitise(one.text[:_LONGEST_TEXT]),
            product=None if one.product is None else sanitise(one.product),
            similarity=one.similarity,
        )
        for one in found.reviews
        if one.similarity >= _LEAST_SIMILARITY
    ]


@router.get("/words")
def read_words(parts: Parts, _: Annotator, task: Task = None) -> dict[str, list[str]]:
    """For each label the words that speak for it, among the newest scored reviews."""
    wanted = task_of(parts, task)
    return _WORDS.get((parts.database.place, wanted), lambda: _words(parts, wanted))


def _words(parts: ConsoleParts, task: str) -> dict[str, list[str]]:
    scored = newest_scored(parts.database, task, _SCORED_FOR_WORDS)
    return telling_words([text for text, _ in scored], [label for _, label in scored])
