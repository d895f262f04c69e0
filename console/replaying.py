"""Dead letters are replayed and discarded here, by the commands and by the pages alike."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from broker.publisher import OutgoingRecord, publish
from broker.settings import KafkaSettings
from reviews.dead_letter import StoredLetter, replay_headers
from reviews.errors import WrongUse
from storage.stream.dead_letters import Choice, ChosenLetter, DeadLetterStore


class ReplayResult(NamedTuple):
    """What became of dead letters that were to be published anew.

    Attributes:
        published: How many were.
        cut: The places of those left out, since only the beginning of their value or key was kept.
    """

    published: int
    cut: tuple[str, ...] = ()


def choose_letters(store: DeadLetterStore, choice: Choice) -> list[ChosenLetter]:
    """The dead letters that are meant.

    Raises:
        WrongUse: If a named one does not exist.
    """
    chosen = store.choose(choice)
    if missing := set(choice.places) - {letter.place for letter in chosen}:
        place = ":".join(map(str, min(missing)))
        raise WrongUse(f"There is no dead letter at {place}: 'reviewloop dead-letters list' shows them.")
    if unknown := set(choice.records) - {letter.record for letter in chosen}:
        raise WrongUse(f"There is no dead letter with the number {min(unknown)}: look at the list again.")
    return chosen


def replay_letters(
    kafka: KafkaSettings,
    store: DeadLetterStore,
    chosen: Sequence[ChosenLetter],
    *,
    value: bytes | None = None,
    topic: str | None = None,
    is_named: bool = False,
) -> ReplayResult:
    """Publish dead letters anew; a worker marks each as replayed when it stores its review.

    Args:
        kafka: How to reach the brokers.
        store: Where their bytes are.
        chosen: Which.
        value: Published instead of the value that was kept, of one letter; None: that value.
        topic: Where to; None: each where it came from.
        is_named: Whether people named them one by one, so that none may be left out.

    Raises:
        WrongUse: If one was replayed already, or one that is named is not there whole.
        Unavailable: If the brokers did not take all of them.
    """
    _refuse_settled(letter for letter in chosen if letter.state == "replayed")
    cut: tuple[str, ...] = ()
    if value is None:
        cut = tuple(_name(letter) for letter in chosen if letter.is_cut)
        if cut and is_named:
            raise WrongUse(
                f"Of the dead letter at {cut[0]} only the beginning was kept, since it was too long: give "
                "the value to publish with --value-file, or let its publisher send it again."
            )
        chosen = [letter for letter in chosen if not letter.is_cut]
    published = 0
    for target, some in groupby(store.read(chosen), key=lambda letter: topic or letter.topic):
        published += publish(kafka, target, (_anew(letter, value) for letter in some))
    return ReplayResult(published, cut)


def discard_letters(store: DeadLetterStore, chosen: Sequence[ChosenLetter], reason: str) -> int:
    """Settle dead letters that nobody will correct, with every attempt at them that waits; how many.

    Raises:
        WrongUse: If there is no reason, or one of them is settled already.
    """
    if not reason.strip() or "\x00" in reason:
        raise WrongUse("The reason is empty: say in a sentence why they are discarded.")
    _refuse_settled(letter for letter in chosen if letter.state not in {"waiting", "superseded"})
    return store.discard([letter.record for letter in chosen], reason)


def _refuse_settled(settled: Iterable[ChosenLetter]) -> None:
    for letter in settled:
        place = _name(letter)
        raise WrongUse(
            f"The dead letter at {place} is {letter.state} already: "
            f"see 'reviewloop dead-letters show {place}'."
        )


def _anew(letter: StoredLetter, value: bytes | None) -> OutgoingRecord:
    return OutgoingRecord(letter.key, letter.raw if value is None else value, replay_headers(letter))


def _name(letter: ChosenLetter) -> str:
    return ":".join(map(str, letter.place))
