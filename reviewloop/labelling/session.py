"""One annotator's session at the terminal: shows an item, takes a key, stores the answer, shows the next."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from console.labelling import AnnotatorQueue, Choices, Command
from reviewloop.labelling.terminal import Keys, Screen
from reviews.errors import Unavailable, WrongUse
from reviews.queue_item import LeasedItem


@dataclass(frozen=True, slots=True)
class Sitting:
    """How somebody labels at the terminal.

    Attributes:
        limit: Stop after so many answers; None: when the queue is empty.
        reveal_guess: Whether the model's guess is shown after the choice.
        guidelines: Of the task, as Markdown; None where it has none.
    """

    limit: int | None = None
    reveal_guess: bool = True
    guidelines: str | None = None


class Done(NamedTuple):
    """What was done with an item: a skip, or else an answer with its label (None: unsure)."""

    item: LeasedItem
    label: str | None = None
    is_skip: bool = False


class Session:
    """The loop between keys, screen and queue."""

    def __init__(
        self,
        queue: AnnotatorQueue,
        keys: Keys,
        screen: Screen,
        choices: Choices,
        sitting: Sitting,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue = queue
        self._keys = keys
        self._screen = screen
        self._choices = choices
        self._sitting = sitting
        self._held: LeasedItem | None = None
        self._done: list[Done] = []
        self._clock = clock
        self._shown_at = 0.0

    def run(self) -> list[Done]:
        """Label until the annotator or the input stops, the limit is reached or nothing is left.

        Ctrl-C stops at any moment; an answer that is being stored then is either stored whole or not at all.

        Returns:
            What was done and not taken back, in order.

        Raises:
            Unavailable: If no item can be had because the database does not answer.
        """
        try:
            while True:
                self._held = self._held or (None if self._is_at_limit() else self._lease())
                if self._held is not None:
                    self._show(self._held)
                if not (self._ask(self._held) if self._held else self._goes_on_from_the_end()):
                    break
        except KeyboardInterrupt:
            self._screen.remark("Stopped.")
        finally:
            self._let_go()
        return self._done

    def _lease(self) -> LeasedItem | None:
        return next(iter(self._queue.lease()), None)

    def _is_at_limit(self) -> bool:
        answered = sum(not done.is_skip for done in self._done)
        return self._sitting.limit is not None and answered >= self._sitting.limit

    def _show(self, item: LeasedItem) -> None:
        answered = sum(not done.is_skip for done in self._done)
        self._keys.forget()
        self._screen.show(item, f"{item.task}: {answered:,} answered, {self._queue.left():,} left")
        self._shown_at = self._clock()

    def _ask(self, item: LeasedItem) -> bool:
        """Take keys until one of them is done with the item; whether to go on."""
        while True:
            typed = self._keys.next()
            meaning = None if typed is None else self._choices.meaning(typed)
            if typed is None or meaning is Command.quit:
                return False
            try:
                if self._does(meaning, item, typed):
                    return True
            except Unavailable as err:
                self._screen.remark(f"{err} Nothing was stored: press the key again in a while.")

    def _goes_on_from_the_end(self) -> bool:
        """At the limit or the end of the queue the last answer can still be taken back; whether it was."""
        end = "That was the last one asked for" if self._is_at_limit() else "Nothing is left to label for you"
        if not self._done:
            self._screen.remark(f"{end}.")
            return False
        self._screen.remark(f"{end}: z takes the last answer back, any other key ends.")
        typed = self._keys.next()
        return typed is not None and self._choices.meaning(typed) is Command.undo and self._undo()

    def _does(self, meaning: str | Command | None, item: LeasedItem, typed: str) -> bool:
        """Do what a key means; whether the item is off the screen then."""
        if meaning is Command.help:
            self._screen.show_help()
        elif meaning is Command.more:
            self._screen.show_whole(item)
        elif meaning is Command.guidelines:
            self._screen.show_guidelines(self._sitting.guidelines)
        elif meaning is Command.undo:
            return self._undo()
        elif meaning is Command.skip:
            self._queue.skip(item)
            self._note(Done(item, is_skip=True))
            return True
        elif meaning is None:
            self._screen.remark(f"'{typed}' means nothing here: ? shows the keys.")
        else:
            self._answer(item, None if isinstance(meaning, Command) else meaning)
            return True
        return False

    def _answer(self, item: LeasedItem, label: str | None) -> None:
        if not self._queue.answer(item, label, seconds=self._clock() - self._shown_at):
            self._screen.remark(
                "That took longer than the lease: the answer is stored, and others may have been asked too."
            )
        self._note(Done(item, label))
        self._screen.tell_choice(item, label, reveal_guess=self._sitting.reveal_guess)

    def _note(self, done: Done) -> None:
        self._done.append(done)
        self._held = None

    def _undo(self) -> bool:
        if not self._done:
            self._screen.remark("There is nothing to take back.")
            return False
        try:
            again = self._queue.undo(self._done[-1].item)
        except WrongUse as err:  # taken back already, such as in another window
            self._done.pop()
            self._screen.remark(str(err))
            return False
        self._done.pop()
        self._let_go()
        self._held = again
        where = "" if again else " Somebody else has that review now; it comes again later."
        self._screen.remark(f"Taken back.{where}")
        return True

    def _let_go(self) -> None:
        if self._held is not None:
            with contextlib.suppress(Unavailable):  # the lease ends by itself
                self._queue.give_back([self._held])
            self._held = None
