"""``/api/v1/queue``: what waits for a label, and leases of its items."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from console.access import Annotator, Forbidden, Parts, Viewer
from console.api.labelling import (
    LEASE_SECONDS,
    LONGEST_NAME,
    MOST_LEASES,
    LeaseBody,
    ShownItem,
    TaskBody,
    lease_of,
    queue_of,
    shown_item,
    task_of,
)
from reviews.account import Role
from reviews.sanitise import sanitise
from storage.labels.progress import queue_ties
from storage.labels.queue_contents import QueueContents

router = APIRouter(prefix="/queue", tags=["queue"])

_LONGEST_TEXT = 2_000


class QueueCounts(BaseModel):
    """How many items have a reason and a state.

    Attributes:
        reason: Why they were queued.
        state: ``open``, ``done``, ``skipped`` or ``expired``.
        items: How many.
        leased: How many of them an annotator has at present.
    """

    reason: str
    state: str
    items: int
    leased: int


class OpenItem(BaseModel):
    """An open item, as the list of the queue shows it.

    Attributes:
        record: The record.
        review_id: The publisher's id.
        reason: Why it was queued.
        strategy: What chose it.
        priority: The greatest is shown first.
        answers: How many annotators answered; not what.
        wanted_answers: How many are wanted.
        holder: Who has it at present.
        queued_at: Since when it waits.
        text: Its beginning.
    """

    record: int
    review_id: str
    reason: str
    strategy: str
    priority: float
    answers: int
    wanted_answers: int
    holder: str | None
    queued_at: datetime
    text: str


class QueueOverview(BaseModel):
    """The queue of a task.

    Attributes:
        task: Which.
        counts: Of open items, by reason.
        top: What is handed out next.
    """

    task: str
    counts: list[QueueCounts]
    top: list[OpenItem]


class LeaseRequest(TaskBody):
    """Asks for the next items.

    Attributes:
        most: At most so many.
        queue: ``all``, or ``ties``: items on which annotators disagree, for operators and owners.
    """

    most: int = Field(1, ge=1, le=MOST_LEASES)
    queue: Literal["all", "ties"] = "all"


class LeasedItems(BaseModel):
    """Items that nobody else gets for a while.

    Attributes:
        items: The most important first.
        seconds: Each lease ends after so long, unless it is renewed.
    """

    items: list[ShownItem]
    seconds: float


class HeldLeases(TaskBody):
    """Names leases.

    Attributes:
        leases: Which.
    """

    leases: list[LeaseBody] = Field(max_length=MOST_LEASES)


class Renewed(BaseModel):
    """Which leases go on.

    Attributes:
        records: The records of those; the others have ended.
    """

    records: list[int]


@router.get("")
def read_queue(
    parts: Parts,
    _: Viewer,
    task: Annotated[str | None, Query(max_length=LONGEST_NAME)] = None,
    limit: Annotated[int, Query(ge=0, le=100)] = 10,
) -> QueueOverview:
    """How many open items there are by reason, and those that are handed out next."""
    wanted = task_of(parts, task)
    queue = QueueContents(parts.database)
    top = [
        OpenItem(**{**item._asdict(), "text": sanitise(item.text[:_LONGEST_TEXT])})
        for item in queue.top(wanted, limit)
    ]
    counts = [QueueCounts(**count._asdict()) for count in queue.counts(wanted, state="open")]
    return QueueOverview(task=wanted, counts=counts, top=top)


@router.post("/leases")
def lease_items(body: LeaseRequest, parts: Parts, actor: Annotator) -> LeasedItems:
    """The next items for this annotator; nobody else gets them before their leases end."""
    task = task_of(parts, body.task)
    among = None
    if body.queue == "ties":
        if not actor.role.covers(Role.OPERATOR):
            raise Forbidden("Disagreements are decided by operators and owners.")
        among = queue_ties(parts.database, task)
    items = queue_of(parts, actor, task).lease(body.most, among)
    if among is not None:
        items = [item._replace(reason="tie") for item in items]
    return LeasedItems(items=[shown_item(item) for item in items], seconds=LEASE_SECONDS)


@router.post("/leases/renew")
def renew_leases(body: HeldLeases, parts: Parts, actor: Annotator) -> Renewed:
    """Keep items for longer."""
    task = task_of(parts, body.task)
    leases = [lease_of(task, one) for one in body.leases]
    return Renewed(records=queue_of(parts, actor, task).renew(leases))


@router.post("/leases/return", status_code=204)
def return_leases(body: HeldLeases, parts: Parts, actor: Annotator) -> None:
    """Let others have items at once."""
    task = task_of(parts, body.task)
    queue_of(parts, actor, task).give_back(lease_of(task, one) for one in body.leases)
