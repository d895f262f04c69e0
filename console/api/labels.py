"""``/api/v1/labels``: answers, skips and undos, each done once however often it is sent; and what helps."""

from collections.abc import Container
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, BeforeValidator, Field

from console.access import Actor, Annotator, Operator, Parts
from console.api.bodies import Body
from console.api.labelling import (
    LARGEST_NUMBER,
    LONGEST_NAME,
    LeaseBody,
    ShownGuess,
    ShownItem,
    TaskBody,
    lease_of,
    queue_of,
    shown_guess,
    shown_item,
    task_of,
)
from console.highlighting import telling_words
from console.labelling import AnnotatorQueue
from console.parts import ConsoleParts
from console.remembered import Remembered
from reviews.errors import InvalidMessage, WrongUse
from reviews.fields import MODEL_PREFIX, Id, Moment, Seconds, is_model
from reviews.label import (
    Judgement,
    Label,
    UnpinnedLabel,
    Vocabulary,
    labelled_in_future,
    refuse_list,
    resolve_label,
)
from reviews.queue_item import CONSOLE_SOURCE, Action, ItemLease
from reviews.sanitise import sanitise
from storage.labels.actions import ActionKnown, done_actions
from storage.labels.progress import (
    answered_since,
    answers_of_others,
    consistency,
    guesses,
    labelled_by_slice,
    median_seconds,
    newest_scored,
)
from storage.labels.store import LabelStore
from storage.queries.similar import find_similar

router = APIRouter(prefix="/labels", tags=["labels"])

MOST_ACTIONS = 50
MOST_LEFT = 1_000
"""Items that are left are counted up to so many."""
_MOST_SIMILAR = 5
_LEAST_SIMILARITY = 0.7
_MOST_MODEL_ANSWERS = 1_000
_LONGEST_MODEL = 128
_CLOCKS_DIFFER = timedelta(minutes=5)
_LONGEST_TEXT = 2_000
_UNDO_SECONDS = 12 * 3600.0
_MOST_UNDONE = 1_000
_SCORED_FOR_WORDS = 1_000
_FEW_ANSWERS, _MANY_ANSWERS = 1_000, 20_000
_NEEDS = Remembered["list[MissingLabels]"](30)
_WORDS = Remembered["dict[str, list[str]]"](600)

Record = Annotated[int, Query(ge=0, le=LARGEST_NUMBER)]
Task = Annotated[str | None, Query(max_length=LONGEST_NAME)]


class LabelAction(LeaseBody):
    """One thing that an annotator did.

    Attributes:
        id: Made by the sender: sent again, the action is known and not done again.
        kind: ``answer``, ``skip`` or ``undo``.
        label: Of an answer: a label of the task; null is "unsure".
        seconds: For so long the annotator looked at it.
        undoes: Of an undo: the action that is taken back.
    """

    id: UUID
    kind: Literal["answer", "skip", "undo"] = "answer"
    label: Annotated[str | None, BeforeValidator(refuse_list)] = Field(None, max_length=LONGEST_NAME)
    seconds: float | None = Field(None, ge=0, le=86_400)
    undoes: UUID | None = None


class LabelActions(TaskBody):
    """What an annotator did, in order.

    Attributes:
        actions: At most 50.
    """

    actions: list[LabelAction] = Field(max_length=MOST_ACTIONS)


class OtherAnswer(BaseModel):
    """What another annotator said.

    Attributes:
        annotator: Who.
        label: What; null is "unsure".
    """

    annotator: str
    label: str | None


class ActionResult(BaseModel):
    """What became of an action.

    Attributes:
        id: The action's.
        state: ``done``; ``known``: it was done before; ``refused``: it cannot be done, see ``detail``.
        detail: Why it was refused, or what the annotator should know.
        item: Of an undo: the item, leased again; null where somebody else has it.
        guess: Of an answer: what the model says.
        others: Of an answer: what others say.
    """

    id: UUID
    state: Literal["done", "known", "refused"] = "done"
    detail: str = ""
    item: ShownItem | None = None
    guess: ShownGuess | None = None
    others: list[OtherAnswer] = []


class ActionResults(BaseModel):
    """What became of actions.

    Attributes:
        results: In their order.
    """

    results: list[ActionResult]


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


@router.post("")
def do_actions(body: LabelActions, parts: Parts, actor: Annotator) -> ActionResults:
    """Do what an annotator did, in order; what cannot be done is refused, and the rest is done."""
    task = task_of(parts, body.task)
    store = LabelStore(parts.database)
    unknown = store.unknown_records([action.record for action in body.actions])
    vocabulary = store.vocabulary(task)
    queue = queue_of(parts, actor, task)
    results = []
    for action in body.actions:
        try:
            _require_known(action.record, unknown)
            results.append(_do(queue, action, vocabulary))
        except (WrongUse, InvalidMessage) as err:
            results.append(ActionResult(id=action.id, state="refused", detail=str(err)))
    return ActionResults(results=_revealed(parts, actor, task, body.actions, results))


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
        _require_known(one.record, unknown)
        return Label(one.record, *said)
    if one.review_id is None:
        raise WrongUse("It names no review: give 'review_id' or 'record'.")
    return UnpinnedLabel(one.review_id, *said)


def _require_known(record: int, unknown: Container[int]) -> None:
    if record in unknown:
        raise WrongUse(f"No review is stored under the record {record}.")


def _do(queue: AnnotatorQueue, action: LabelAction, vocabulary: Vocabulary | None) -> ActionResult:
    lease = lease_of(queue.task, action)
    once = Action(action.id, action.seconds, action.undoes)
    try:
        if action.kind == "undo":
            return _undo(queue, lease, once)
        if action.kind == "skip":
            queue.skip(lease, once)
            return ActionResult(id=action.id)
        in_time = queue.answer(lease, resolve_label(action.label, vocabulary), once)
    except ActionKnown:
        return ActionResult(id=action.id, state="known")
    is_late = action.token > 0 and not in_time
    late = "That took longer than the lease: the answer is stored, and others may have been asked too."
    return ActionResult(id=action.id, detail=late if is_late else "")


def _undo(queue: AnnotatorQueue, lease: ItemLease, once: Action) -> ActionResult:
    try:
        state, item = "done", queue.undo(lease, once)
    except ActionKnown:
        state, item = "known", queue.held(lease.record)
    return ActionResult(id=once.id, state=state, item=None if item is None else shown_item(item))


def _revealed(
    parts: ConsoleParts, actor: Actor, task: str, actions: list[LabelAction], results: list[ActionResult]
) -> list[ActionResult]:
    """The results, with what the model and others say of each record that was answered now."""
    of_result = list(zip(actions, results, strict=True))
    answered = [
        action.record for action, result in of_result if action.kind == "answer" and result.state != "refused"
    ]
    if not answered:
        return results
    said = guesses(parts.database, task, answered)
    answers = LabelStore(parts.database).answers(task, answered)
    for action, result in of_result:
        if action.kind == "answer" and result.state != "refused":
            result.guess = shown_guess(said.get(action.record))
            others = answers_of_others((one for one in answers if one.record == action.record), actor.name)
            result.others = [OtherAnswer(annotator=sanitise(name), label=label) for name, label in others]
    return results


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
