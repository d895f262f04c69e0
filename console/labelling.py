"""Labelling by keys, at the terminal and in the browser: what keys mean, and how answers reach the queue."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from string import ascii_lowercase
from typing import Protocol

from reviews.errors import WrongUse
from reviews.queue_item import Action, HeldItem, LeasedItem
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.labels.annotation_queue import ItemLeaseEnded
from storage.labels.label_sets import LabelSetStore

_DIGITS = "123456789"


class Command(Enum):
    """What can be done with an item besides labelling it; the value is the key."""

    unsure = "u"
    skip = "s"
    undo = "z"
    more = "m"
    guidelines = "g"
    help = "?"
    quit = "q"


HELP = {
    Command.unsure: "you looked and cannot tell; this is an answer, too",
    Command.skip: "not for you; others may be asked",
    Command.undo: "take your last answer or skip back; again for the one before",
    Command.more: "the whole of a long text",
    Command.guidelines: "what annotators of this task should know",
    Command.help: "this help",
    Command.quit: "stop; the review on the screen goes back to the queue",
}
"""What each command does, for people."""
PAGE_KEYS = {"h": "highlight words that speak for a label", "l": "similar reviews: to the list and back"}
"""Further keys of the page; no label gets one of them, so that a key is the same everywhere."""
REASONS = {
    "uncertain": "The model is to learn from it.",
    "audit": "It was drawn at random, to measure how good the model is.",
    "disagreement": "Two versions of the model do not agree about it.",
    "drift": "It is of a kind that has become more frequent lately.",
    "edited": "Its author has changed it since it was labelled.",
    "second_look": "Its label was given before, and another look was asked for.",
    "tie": "Annotators do not agree about it.",
}
"""Why an item was queued, for people; it tells nothing of what anybody said."""


@dataclass(frozen=True, slots=True)
class Choices:
    """The labels of a task with their keys.

    Attributes:
        labels: In the adapter's order.
        keys: Each label's keys, a digit first where it has one.
    """

    labels: tuple[str, ...]
    keys: Mapping[str, tuple[str, ...]]

    def meaning(self, typed: str) -> str | Command | None:
        """The label or command of a key, or of its whole name; None if it means nothing."""
        word = typed.lower()
        for label in self.labels:
            if word in (*self.keys[label], label.lower()):
                return label
        return next((command for command in Command if word in (command.value, command.name)), None)


def make_choices(labels: Sequence[str]) -> Choices:
    """Keys for labels: 1 to 9 in their order, and the first letter where it belongs to one label alone.

    Further labels get a letter of their name, or any that is left.

    Raises:
        WrongUse: If there are more labels than keys.
    """
    initials = Counter(label[:1].lower() for label in labels)
    taken = {command.value for command in Command} | set(PAGE_KEYS)
    keys: dict[str, tuple[str, ...]] = {}
    for digit, label in zip(_DIGITS.ljust(len(labels)), labels, strict=False):
        initial = label[:1].lower()
        is_free = initial.isalpha() and initials[initial] == 1 and initial not in taken
        keys[label] = tuple(key for key in (digit.strip(), initial if is_free else "") if key)
        taken.update(keys[label])
    for label in labels:
        if not keys[label]:
            keys[label] = (_free_letter(label, taken),)
            taken.update(keys[label])
    return Choices(tuple(labels), keys)


def _free_letter(label: str, taken: set[str]) -> str:
    for letter in label.lower() + ascii_lowercase:
        if letter.isalpha() and letter not in taken:
            return letter
    raise WrongUse(f"There is no key left for the label '{label}': use 'reviewloop label import' instead.")


def labels_of(database: Database, task: str) -> tuple[str, ...]:
    """The labels that people choose from: as declared, else those of the task's active adapter.

    Raises:
        WrongUse: If the task has no active adapter.
    """
    declared = LabelSetStore(database).declared(task)
    if declared is not None:
        return declared.labels
    adapters = AdapterStore(database)
    active = adapters.active(task)
    if active is None:
        raise WrongUse(
            f"The task '{task}' has no active adapter, so its labels are not known: "
            "'reviewloop adapters add DIR --activate' brings one."
        )
    return adapters.find(active.version).labels


class Queue(Protocol):
    """What annotators ask of the queue; `AnnotationQueue` (`storage.labels`) says what each does."""

    def lease_several(
        self, task: str, annotator: str, seconds: float, most: int, among: Sequence[int] | None = None
    ) -> list[LeasedItem]:
        """The next items."""

    def renew(self, item: HeldItem, annotator: str, seconds: float) -> bool:
        """Keep an item for longer."""

    def held(self, task: str, record: int, annotator: str) -> LeasedItem | None:
        """An item in hand."""

    def answer(
        self,
        item: HeldItem,
        label: str | None,
        annotator: str,
        *,
        is_late: bool = False,
        action: Action | None = None,
        seconds: float | None = None,
    ) -> bool:
        """Store an answer."""

    def skip(self, item: HeldItem, annotator: str, action: Action | None = None) -> None:
        """Pass on an item."""

    def undo(
        self, item: HeldItem, annotator: str, seconds: float, action: Action | None = None
    ) -> LeasedItem | None:
        """Take back an answer or a skip."""

    def give_back(self, item: HeldItem) -> None:
        """Let others have an item."""

    def left_for(self, task: str, annotator: str, most: int | None = None) -> int:
        """How many items are left."""


class AnnotatorQueue:
    """The annotation queue as one annotator uses it: the one way in which items are had and answers given.

    Args:
        queue: The queue of everybody.
        task: The task.
        annotator: Whose answers they are.
        lease_seconds: For so long an item is this annotator's alone.
    """

    def __init__(self, queue: Queue, task: str, annotator: str, lease_seconds: float = 600) -> None:
        self._queue = queue
        self.task = task
        self.annotator = annotator
        self._seconds = lease_seconds

    def lease(self, most: int = 1, among: Sequence[int] | None = None) -> list[LeasedItem]:
        """The next items, which nobody else gets meanwhile.

        Args:
            most: At most so many.
            among: Only of these records; None: of all.
        """
        return self._queue.lease_several(self.task, self.annotator, self._seconds, most, among)

    def renew(self, items: Iterable[HeldItem]) -> list[int]:
        """Keep items for longer; the records of those that are still this annotator's."""
        return [item.record for item in items if self._queue.renew(item, self.annotator, self._seconds)]

    def answer(
        self,
        item: HeldItem,
        label: str | None,
        action: Action | None = None,
        *,
        seconds: float | None = None,
    ) -> bool:
        """Store an answer, also where the lease has ended: then others may have been asked too.

        Args:
            item: As it was leased.
            label: One of the task's labels; None for "unsure".
            action: What makes a repeated request one answer.
            seconds: How long it took; unset, what the action says.

        Returns:
            Whether the lease still held.
        """
        try:
            self._queue.answer(item, label, self.annotator, action=action, seconds=seconds)
        except ItemLeaseEnded:
            self._queue.answer(item, label, self.annotator, is_late=True, action=action, seconds=seconds)
            return False
        return True

    def skip(self, item: HeldItem, action: Action | None = None) -> None:
        """Pass on an item: it is not shown to this annotator again."""
        self._queue.skip(item, self.annotator, action)

    def undo(self, item: HeldItem, action: Action | None = None) -> LeasedItem | None:
        """Take back the last skip or answer about an item; None where somebody else has the item now.

        Raises:
            WrongUse: If there is nothing to take back.
        """
        return self._queue.undo(item, self.annotator, self._seconds, action)

    def held(self, record: int) -> LeasedItem | None:
        """An item that is this annotator's at present."""
        return self._queue.held(self.task, record, self.annotator)

    def give_back(self, items: Iterable[HeldItem]) -> None:
        """Let others have these items at once."""
        for item in items:
            self._queue.give_back(item)

    def left(self, most: int | None = None) -> int:
        """How many items are left for this annotator, counted up to so many."""
        return self._queue.left_for(self.task, self.annotator, most)
