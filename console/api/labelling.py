"""What the routes of labelling share: the task that is asked for, the annotator's queue, and shown items."""

from collections.abc import Container

from pydantic import BaseModel, Field

from console.access import Actor
from console.api.bodies import Body
from console.labelling import REASONS, AnnotatorQueue
from console.parts import ConsoleParts
from console.problems import Missing
from reviews.errors import WrongUse
from reviews.queue_item import CONSOLE_SOURCE, Guess, ItemLease, LeasedItem
from reviews.sanitise import sanitise
from storage.labels.annotation_queue import AnnotationQueue

LEASE_SECONDS = 180.0
"""So long nobody else gets an item; who has it on the screen renews its lease."""
MOST_LEASES = 20
"""At most so many leases in one request."""
LONGEST_NAME = 256
LARGEST_NUMBER = 2**63 - 1


class TaskBody(Body):
    """A request about one task.

    Attributes:
        task: Which; unset, the first that the console knows.
    """

    task: str | None = Field(None, max_length=LONGEST_NAME)


class LeaseBody(Body):
    """Names the lease of an item.

    Attributes:
        record: The record to be judged.
        token: Names the lease.
    """

    record: int = Field(ge=0, le=LARGEST_NUMBER)
    token: int = Field(0, ge=0, le=LARGEST_NUMBER)


class ShownItem(BaseModel):
    """An item as an annotator gets it, without the model's guess and without others' answers.

    Attributes:
        record: The record to be judged.
        token: Names the lease.
        review_id: The publisher's id.
        text: What it says, without invisible characters.
        product: What it is about.
        source: Where it comes from.
        published_at: When it was published, in ISO 8601.
        is_edited: Whether there is a newer version.
        reason: Why it is asked: one word.
        why: Why it is asked: a sentence.
    """

    record: int
    token: int
    review_id: str
    text: str
    product: str | None
    source: str | None
    published_at: str
    is_edited: bool
    reason: str
    why: str


class ShownGuess(BaseModel):
    """What the model says.

    Attributes:
        label: Its label.
        confidence: The probability of it.
        adapter: The version that says so.
    """

    label: str
    confidence: float
    adapter: str


def task_of(parts: ConsoleParts, asked: str | None) -> str:
    """The task that is asked for.

    Raises:
        Missing: If the console knows no such task.
    """
    if asked is None:
        return parts.tasks[0]
    if asked not in parts.tasks:
        raise Missing(f"There is no task '{asked}': the console knows {', '.join(parts.tasks)}.")
    return asked


def queue_of(parts: ConsoleParts, actor: Actor, task: str) -> AnnotatorQueue:
    """The queue of a task as one annotator uses it."""
    queue = AnnotationQueue(parts.database, CONSOLE_SOURCE)
    return AnnotatorQueue(queue, task, actor.name, LEASE_SECONDS)


def lease_of(task: str, body: LeaseBody) -> ItemLease:
    """The lease that a request names."""
    return ItemLease(body.record, task, body.token)


def shown_item(item: LeasedItem) -> ShownItem:
    """An item for its annotator."""
    return ShownItem(
        record=item.record,
        token=item.token,
        review_id=sanitise(item.review_id),
        text=sanitise(item.text),
        product=_one_line(item.product),
        source=_one_line(item.source),
        published_at=item.published_at.isoformat(),
        is_edited=item.is_edited,
        reason=item.reason,
        why=REASONS.get(item.reason, ""),
    )


def shown_guess(guess: Guess | None) -> ShownGuess | None:
    """The model's guess, for somebody who has answered."""
    if guess is None:
        return None
    return ShownGuess(label=guess.label, confidence=guess.confidence, adapter=guess.adapter_version)


def _one_line(text: str | None) -> str | None:
    return None if text is None else " ".join(sanitise(text).split())


def require_known(record: int, unknown: Container[int]) -> None:
    """Refuse a record under which no review is stored.

    Raises:
        WrongUse: If it is one of those that are not known.
    """
    if record in unknown:
        raise WrongUse(f"No review is stored under the record {record}.")
