"""``/api/v1/labels/of-models``: what models say of reviews, each answer once however often it is sent."""

from collections.abc import Container
from datetime import UTC, datetime, timedelta

from fastapi import APIRouter
from pydantic import BaseModel, Field

from console.access import Operator, Parts
from console.api.bodies import Body
from console.api.labelling import LARGEST_NUMBER, TaskBody, require_known, task_of
from reviews.errors import InvalidMessage, WrongUse
from reviews.fields import MODEL_PREFIX, Id, Moment, Seconds, is_model
from reviews.label import Judgement, Label, UnpinnedLabel, Vocabulary, labelled_in_future, resolve_label
from reviews.queue_item import CONSOLE_SOURCE
from storage.labels.store import LabelStore

router = APIRouter(prefix="/labels", tags=["labels"])

_MOST_MODEL_ANSWERS = 1_000
_LONGEST_MODEL = 128
_CLOCKS_DIFFER = timedelta(minutes=5)


class ModelAnswerBody(Body):
    """What a model says of one review.

    Attributes:
        review_id: The review, by the publisher's id: the version that was current at ``labelled_at``.
        record: Instead of that, the version itself.
        label: A label of the task, by name or number; null is "unsure".
        labelled_at: When it was said; unset: now. Sent again with the same time, it is known.
        seconds: How long it took.
    """

    review_id: Id | None = None
    record: int | None = Field(None, ge=0, le=LARGEST_NUMBER)
    label: Judgement
    labelled_at: Moment = None
    seconds: Seconds = None


class ModelAnswers(TaskBody):
    """What a model says of reviews.

    Attributes:
        model: Its name: answers are of the annotator ``model:NAME``.
        answers: At most 1,000.
    """

    model: str = Field(min_length=1, max_length=_LONGEST_MODEL)
    answers: list[ModelAnswerBody] = Field(max_length=_MOST_MODEL_ANSWERS)


class RefusedAnswer(BaseModel):
    """An answer that was not taken.

    Attributes:
        number: Its place in the request, from 0.
        detail: Why.
    """

    number: int
    detail: str


class ModelAnswersResult(BaseModel):
    """What became of a model's answers.

    Attributes:
        annotator: Whose they are.
        added: So many are new.
        waiting: So many wait for their review.
        known: So many were known.
        refused: The others.
    """

    annotator: str
    added: int
    waiting: int
    known: int
    refused: list[RefusedAnswer]


@router.post("/of-models")
def add_answers_of_model(body: ModelAnswers, parts: Parts, _: Operator) -> ModelAnswersResult:
    """Take in what a model says of reviews: it may train with a weight, and judges nothing."""
    annotator = f"{MODEL_PREFIX}{body.model}"
    if not is_model(annotator):
        raise WrongUse("The model has no name: give one with something to see.")
    task, store, now = task_of(parts, body.task), LabelStore(parts.database), datetime.now(UTC)
    vocabulary = store.vocabulary(task)
    unknown = store.unknown_records([one.record for one in body.answers if one.record is not None])
    labels: list[Label | UnpinnedLabel] = []
    refused = []
    for number, one in enumerate(body.answers):
        try:
            labels.append(_model_label(one, task, annotator, now, vocabulary, unknown))
        except (WrongUse, InvalidMessage) as err:
            refused.append(RefusedAnswer(number=number, detail=str(err)))
    added = store.add(labels)
    return ModelAnswersResult(annotator=annotator, **added._asdict(), refused=refused)


def _model_label(  # noqa: PLR0917  what one answer needs of the request
    one: ModelAnswerBody,
    task: str,
    annotator: str,
    now: datetime,
    vocabulary: Vocabulary | None,
    unknown: Container[int],
) -> Label | UnpinnedLabel:
    if one.labelled_at is not None and one.labelled_at > now + _CLOCKS_DIFFER:
        raise labelled_in_future()
    label = resolve_label(one.label, vocabulary)
    said = (task, label, annotator, CONSOLE_SOURCE, one.labelled_at or now, None, one.seconds)
    if one.record is not None:
        require_known(one.record, unknown)
        return Label(one.record, *said)
    if one.review_id is None:
        raise WrongUse("It names no review: give 'review_id' or 'record'.")
    return UnpinnedLabel(one.review_id, *said)
