"""A dead letter as a page and the API show it: its bytes, what is wrong with them, and other attempts."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from console.access import Actor, log_of
from console.api.paging import from_cursor, to_cursor
from console.byte_view import ByteLine, EditableText, byte_lines, editable, first_broken_byte
from console.letter_hints import Hint, Parse, hints
from console.parts import ConsoleParts
from console.problems import Missing
from reviews.dead_letter import RecordHeaders, StoredLetter
from reviews.errors import Unavailable, WrongUse
from reviews.label import parse_label
from reviews.message import parse_review
from reviews.record_value import full_bytes
from reviews.sources.record_parts import RecordPlace
from reviews.sources.settings import source_of
from storage.stream.dead_letters import Choice, ChosenLetter, DeadLetterStore
from storage.stream.letters_by_reason import LetterLine, find_attempts, find_letter

SHOWN_BYTES = 512
EDITED_BYTES = 64 * 1024
"""A longer value is not put into a form; the command takes a file."""
_BEFORE_MISTAKE = 128


@dataclass(frozen=True, slots=True)
class LetterView:
    """One dead letter, with everything that helps to decide about it.

    Attributes:
        line: What is known about it.
        letter: With its bytes.
        lines: Some of the value's bytes.
        start: The first byte that is shown.
        broken_at: The byte at which the value stops being UTF-8; None where it is UTF-8.
        text: The value as text to edit; None where it has none, is too long, or is not there whole.
        hints: What is wrong.
        attempts: All attempts at it, itself among them.
    """

    line: LetterLine
    letter: StoredLetter
    lines: list[ByteLine]
    start: int
    broken_at: int | None
    text: EditableText | None
    hints: list[Hint]
    attempts: list[LetterLine]

    @property
    def kept_bytes(self) -> int:
        """How many bytes of the value were kept."""
        return len(self.letter.raw or b"")

    @property
    def value_bytes(self) -> int:
        """How many bytes the value had."""
        return full_bytes(self.letter.raw)


def view_letter(parts: ConsoleParts, record: int, start: int | None = None) -> LetterView:
    """A dead letter by its number.

    Args:
        parts: Of the console.
        record: Its number.
        start: The first byte of its value to show; None: a little before the first that is wrong.

    Raises:
        Missing: If there is none of this number.
    """
    line = find_letter(parts.database, record)
    store = DeadLetterStore(parts.database)
    letter = next(store.read(store.choose(Choice(records=(record,)))), None)
    if line is None or letter is None:
        raise Missing(f"There is no dead letter with the number {record}.")
    raw = letter.raw or b""
    broken_at = first_broken_byte(raw)
    if start is None:
        start = max(0, (broken_at or 0) - _BEFORE_MISTAKE)
    may_be_edited = letter.raw is not None and not line.is_cut and len(raw) <= EDITED_BYTES
    return LetterView(
        line,
        letter,
        byte_lines(raw, start, SHOWN_BYTES, broken_at),
        start,
        broken_at,
        editable(raw) if may_be_edited and has_text(parts, letter) else None,
        _hints(parts, letter),
        find_attempts(parts.database, line),
    )


def _hints(parts: ConsoleParts, letter: StoredLetter) -> list[Hint]:
    try:
        return hints(letter, parser_of(parts, letter), is_plain=parts.mappings.of(letter.topic) is None)
    except Unavailable as err:
        return [Hint(f"The value cannot be examined now. {err}")]


def parser_of(parts: ConsoleParts, letter: StoredLetter) -> Parse:
    """What the workers read values of its topic with."""
    if letter.stage == "label" or letter.topic == parts.kafka.labels_topic:
        return lambda value: parse_label(value, parts.max_message_bytes)
    mapping = parts.mappings.of(letter.topic)
    if mapping is None:
        return lambda value: parse_review(value, parts.max_message_bytes)
    place = (
        RecordPlace(*letter.origin[:3])
        if letter.origin
        else RecordPlace(letter.topic_id, letter.partition, letter.offset)
    )
    timestamp_ms = -1 if letter.timestamp_ms is None else letter.timestamp_ms
    return lambda value: mapping.read(_Attempt(letter.key, value, letter.headers), timestamp_ms, place)


class _Attempt(NamedTuple):
    """A dead letter with another value, as it would be published anew."""

    key: bytes | None
    value: bytes | None
    headers: RecordHeaders


def has_text(parts: ConsoleParts, letter: StoredLetter) -> bool:
    """Whether its value can be edited as a text."""
    source = source_of(parts.sources, letter.topic)
    return letter.stage == "label" or source is None or source.value_format in {"json", "text"}


def decision_about(
    parts: ConsoleParts, who: Actor, action: str, chosen: Sequence[ChosenLetter], reason: str
) -> AbstractContextManager[None]:
    """An entry of the audit log about dead letters: the place of one, the number of several."""
    first = ":".join(map(str, chosen[0].place)) if chosen else "none"
    subject = first if len(chosen) == 1 else f"{len(chosen):,} dead letters, {first} for one"
    return log_of(parts).decision(who.name, action, subject, reason=reason, address=who.address)


def position_of(cursor: str | None) -> tuple[datetime, int] | None:
    """The place in the list behind which a piece begins; None at the beginning.

    Raises:
        WrongUse: If the cursor is of another list.
    """
    found = from_cursor(cursor, (str, int))
    if found is None:
        return None
    try:
        return datetime.fromisoformat(found[0]), found[1]
    except ValueError as err:
        raise WrongUse("The cursor is not one of this list: leave it out to begin anew.") from err


def cursor_of(line: LetterLine) -> str:
    """The cursor of the piece behind a dead letter."""
    return to_cursor(line.received_at.isoformat(), line.record)
