"""Items of the annotation queue, as they are queued and as an annotator gets them."""

from datetime import datetime
from typing import Literal, NamedTuple, Protocol
from uuid import UUID

Reason = Literal["uncertain", "audit", "disagreement", "drift", "edited", "second_look", "tie"]
"""Why an annotator should look at an item."""

AUDIT: Reason = "audit"
"""The random draw of the audit slice asked: only answers to its items speak for the whole stream."""
ASKED_AGAIN: tuple[Reason, ...] = ("edited", "second_look")
"""Reasons that open a closed item again; only answers since then count for it."""
TERMINAL_SOURCE = "terminal"
"""The source of a label that was given at the terminal."""
CONSOLE_SOURCE = "console"
"""The source of a label that was given in the console, or by a program through its interface."""
UNDO_SOURCE = "undo"
"""The source of a label row without a label that takes its annotator's answer before it back."""
LABEL_SET_SOURCE = "label-set"
"""The source of a label row that repeats an answer under the name that its label has after a change."""


class NewItem(NamedTuple):
    """An item that is worth a person's look.

    Attributes:
        record: The record to be judged.
        task: The task, such as ``sentiment``.
        reason: Why.
        strategy: What chose it, such as ``margin`` or ``audit``.
        priority: The greatest is shown first; finite.
        wanted_answers: So many different annotators are asked; at least 1.
        draw_weight: How much an item of the audit counts beside those that were drawn least often, in (0, 1]:
            the least chance over its own. None where it was not drawn, or all had the same chance.
    """

    record: int
    task: str
    reason: Reason
    strategy: str
    priority: float
    wanted_answers: int = 1
    draw_weight: float | None = None


class Guess(NamedTuple):
    """What the model says about an item: kept from the annotator until the choice is made.

    Attributes:
        label: The most probable label.
        confidence: Its calibrated probability, in [0, 1].
        adapter_version: Which adapter says so.
    """

    label: str
    confidence: float
    adapter_version: str


class HeldItem(Protocol):
    """What names the lease of an item."""

    @property
    def record(self) -> int:
        """The record to be judged."""

    @property
    def task(self) -> str:
        """The task."""

    @property
    def token(self) -> int:
        """Names this lease; the next one has a greater token."""


class ItemLease(NamedTuple):
    """The lease of an item without the item.

    Attributes:
        record: The record to be judged.
        task: The task.
        token: Names this lease; 0: none, such as for a review that the queue never asked about.
    """

    record: int
    task: str
    token: int = 0


class Action(NamedTuple):
    """What makes a request that is sent again the same action of an annotator.

    Attributes:
        id: Made by the sender.
        seconds: For so long the annotator looked at the item; None where nobody measured it.
        undoes: The action that is taken back; None where it takes none back.
    """

    id: UUID
    seconds: float | None = None
    undoes: UUID | None = None


class LeasedItem(NamedTuple):
    """An item that one annotator has for a while; it tells nothing of what others answered.

    Attributes:
        record: The record to be judged; the answer is about this one, whatever is published meanwhile.
        task: The task.
        token: Names this lease; the next one has a greater token.
        expires_at: When others may have the item (UTC, the database's clock).
        reason: Why it is worth a look.
        review_id: The publisher's id.
        text: What the record says.
        product: What it is about, where that is known.
        source: Where it comes from, where that is known.
        published_at: When it was published (UTC).
        is_edited: Whether a newer record has the same review id.
        guess: The model's answer; None where the record is not scored for the task.
    """

    record: int
    task: str
    token: int
    expires_at: datetime
    reason: str
    review_id: str
    text: str
    product: str | None
    source: str | None
    published_at: datetime
    is_edited: bool
    guess: Guess | None


class QueueCount(NamedTuple):
    """How many items have a reason and a state.

    Attributes:
        reason: Why they were queued.
        state: ``open``, ``done``, ``skipped`` (enough people passed on them) or ``expired`` (nobody answered
            in time).
        items: How many.
        leased: How many of them an annotator has at present.
    """

    reason: str
    state: str
    items: int
    leased: int


class QueuedItem(NamedTuple):
    """An open item, as the list of the queue shows it.

    Attributes:
        record: The record.
        review_id: The publisher's id.
        reason: Why it was queued.
        strategy: What chose it.
        priority: The greatest is shown first.
        answers: How many annotators answered; not what.
        wanted_answers: How many are wanted.
        holder: Which annotator has it at present; None: it is free.
        queued_at: Since when it waits (UTC).
        text: What the record says.
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
