"""``/api/v1/labels``: answers, skips and undos, each done once however often it is sent."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, BeforeValidator, Field

from console.access import Actor, Annotator, Parts
from console.api.labelling import (
    LONGEST_NAME,
    LeaseBody,
    ShownGuess,
    ShownItem,
    TaskBody,
    lease_of,
    queue_of,
    require_known,
    shown_guess,
    shown_item,
    task_of,
)
from console.labelling import AnnotatorQueue
from console.parts import ConsoleParts
from reviews.errors import InvalidMessage, WrongUse
from reviews.label import Vocabulary, refuse_list, resolve_label
from reviews.queue_item import Action, ItemLease
from reviews.sanitise import sanitise
from storage.labels.actions import ActionKnown
from storage.labels.progress import (
    answers_of_others,
    guesses,
)
from storage.labels.store import LabelStore

router = APIRouter(prefix="/labels", tags=["labels"])

MOST_ACTIONS = 50


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
            require_known(action.record, unknown)
            results.append(_do(queue, action, vocabulary))
        except (WrongUse, InvalidMessage) as err:
            results.append(ActionResult(id=action.id, state="refused", detail=str(err)))
    return ActionResults(results=_revealed(parts, actor, task, body.actions, results))


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
