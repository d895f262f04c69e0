"""Dead letters: records that became no row, and the headers of their replays and forwarded copies.

A replay carries the headers of the first attempt, and two more. One names the dead letter by what Kafka
itself calls the record: topic id, partition and offset; every database that reads the topic finds its own row
by that. The other keeps the time of the first record, so that an old message replayed today does not pass for
the newest version of its review.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from reviews.message import PLAIN_TEXT
from reviews.record_id import MAX_OFFSET
from reviews.record_value import KEPT_BYTES, CutHeaders, cut, full_bytes

REPLAY_HEADER = "reviewloop.dead_letter"
TIMESTAMP_HEADER = "reviewloop.timestamp"

_SHORTENED_BYTES = 1_000
_MAX_TOPIC_ID_CHARACTERS = 64
_MAX_PARTITION = 2**31 - 1
_MAX_TIMESTAMP_MS = 253_402_300_799_999  # the end of the year 9999

Headers = list[tuple[str, bytes | None]]
RecordHeaders = Sequence[tuple[str, bytes | None]]
_BYTES_OF_A_HEADER = 128  # what Python takes for one, were it empty


def held_bytes(headers: RecordHeaders) -> int:
    """About how many bytes of memory headers take."""
    return sum(_BYTES_OF_A_HEADER + len(name) + len(value or b"") for name, value in headers)


class KeptHeaders(NamedTuple):
    """The headers that are kept with a dead letter.

    Attributes:
        headers: The first ones, without those of a replay.
        left_out: How many others there were, which are too long to be kept or cannot be stored.
    """

    headers: RecordHeaders
    left_out: int = 0


def kept_headers(headers: RecordHeaders) -> KeptHeaders:
    """Those of a record that its dead letter keeps, about 64 KiB at most."""
    own = [item for item in headers if item[0] not in {REPLAY_HEADER, TIMESTAMP_HEADER}]
    kept: Headers = []
    room = KEPT_BYTES
    for name, value in own:
        room -= len(name.encode(errors="replace")) + len(value or b"")
        if room < 0 or "\x00" in name or not is_storable(name):
            break
        kept.append((name, value))
    unread = headers.left_out if isinstance(headers, CutHeaders) else 0
    return KeptHeaders(kept, len(own) - len(kept) + unread)


def is_storable(text: str) -> bool:
    """Whether a text has nothing that UTF-8 lacks: half of a surrogate pair."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


DeadLetterStage = Literal["parse", "decode", "map", "score", "label", "store"]
"""Where a record failed.

``parse``: an unreadable review, in the message format of reviews. ``decode``: bytes that are not of the
format that their source declares. ``map``: a decoded record in which its source finds no review. ``score``: a
model failed on it. ``label``: an unreadable label, or one that its task does not have. ``store``: the
database refused the record, of either topic.
"""


class Replay(NamedTuple):
    """Which dead letter a record is another attempt at.

    Attributes:
        topic_id: The id of the topic that the dead letter came from.
        partition: Its partition there.
        offset: Its offset there.
        timestamp_ms: When it was published first, in milliseconds since 1970; None where nobody knows.
    """

    topic_id: str
    partition: int
    offset: int
    timestamp_ms: int | None = None


class DeadLetter(NamedTuple):
    """One delivered record that cannot become a review or a label.

    Attributes:
        offset: Its offset in the partition.
        stage: Where it failed.
        reason: A short stable name for counting.
        message: What was wrong, in a sentence that does not quote the input.
        raw: The value as delivered; :class:`~reviews.record_value.CutBytes` where it was too long to be kept,
            None for a tombstone.
        key: The key as delivered, cut like the value.
        received_at: When the consumer had it in hand.
        kafka_ms: Kafka's time of the record, in milliseconds since 1970; below 0 where it had none. Stored as
            dead_letter.timestamp_ms.
        replay: The dead letter that it was another attempt at; None for a first attempt.
        headers: As delivered.
    """

    offset: int
    stage: DeadLetterStage
    reason: str
    message: str
    raw: bytes | None
    key: bytes | None
    received_at: datetime
    kafka_ms: int = -1
    replay: Replay | None = None
    headers: RecordHeaders = ()

    @property
    def held_bytes(self) -> int:
        """About how many bytes of memory it takes."""
        return len(self.raw or b"") + len(self.key or b"") + held_bytes(self.headers)

    def shortened(self) -> "DeadLetter":
        """The same with the beginning of its value alone, where not even the dead letter can be stored."""
        if self.raw is None:
            return self._replace(key=None, headers=())
        message = f"{self.message} Of its {full_bytes(self.raw)} bytes the first {_SHORTENED_BYTES} are kept."
        return self._replace(raw=cut(self.raw, _SHORTENED_BYTES), key=None, message=message, headers=())

    def stand_in(self) -> "DeadLetter":
        """A harmless stand-in at the same offset."""
        return self._replace(raw=PLAIN_TEXT.encode(), key=None, message=PLAIN_TEXT, replay=None, headers=())


class StoredLetter(NamedTuple):
    """A dead letter as the database keeps it.

    Attributes:
        record: The number that names it in this database.
        topic: The topic that it came from.
        topic_id: That topic's id.
        partition: Its partition.
        offset: Its offset.
        stage: Where it failed.
        reason: A short stable name for counting.
        message: What was wrong, in a sentence.
        raw: The value as delivered, cut where it was too long to be kept; None for a tombstone.
        key: The key as delivered, cut like the value.
        state: ``waiting``, ``replayed``, ``discarded`` or, where a later attempt waits, ``superseded``.
        timestamp_ms: Kafka's time of the record, in milliseconds since 1970; None or below 0: unknown.
        received_at: When a consumer had it in hand.
        origin: The dead letter that it was another attempt at; None for a first attempt.
        headers: As delivered, without those of a replay.
    """

    record: int
    topic: str
    topic_id: str
    partition: int
    offset: int
    stage: DeadLetterStage
    reason: str
    message: str
    raw: bytes | None
    key: bytes | None
    state: str
    timestamp_ms: int | None
    received_at: datetime
    origin: Replay | None = None
    headers: RecordHeaders = ()

    @property
    def place(self) -> str:
        """``TOPIC:PARTITION:OFFSET``, as people name it."""
        return f"{self.topic}:{self.partition}:{self.offset}"


def replay_headers(letter: StoredLetter) -> Headers:
    """The headers of another attempt at a dead letter, the first one's with it; each names the first one."""
    named = letter.origin or letter
    place = f"{named.topic_id}:{named.partition}:{named.offset}"
    timestamp_ms = letter.timestamp_ms
    if timestamp_ms is None or not 0 <= timestamp_ms <= _MAX_TIMESTAMP_MS:
        timestamp_ms = int(letter.received_at.timestamp() * 1000)
    own = [(REPLAY_HEADER, place.encode()), (TIMESTAMP_HEADER, str(timestamp_ms).encode())]
    return [*letter.headers, *own]


def read_replay(headers: Iterable[tuple[str, bytes | None]]) -> Replay | None:
    """What a record's headers say of the dead letter it is another attempt at; None: it is no replay.

    Anybody may write headers: what does not look like ours is no replay, and never an error.
    """
    place = timestamp = ""
    for name, value in headers:
        if name == REPLAY_HEADER:
            place = _text(value)
        elif name == TIMESTAMP_HEADER:
            timestamp = _text(value)
    topic_id, _, rest = place.partition(":")
    partition, _, offset = rest.partition(":")
    numbers = _number(partition, _MAX_PARTITION), _number(offset, MAX_OFFSET)
    if not 0 < len(topic_id) <= _MAX_TOPIC_ID_CHARACTERS or numbers[0] is None or numbers[1] is None:
        return None
    return Replay(topic_id, numbers[0], numbers[1], _number(timestamp, _MAX_TIMESTAMP_MS))


def connect_headers(letter: StoredLetter) -> Headers:
    """Kafka Connect's headers for a record on a dead-letter topic, behind the record's own.

    Connect's exception class is our stable reason, which is what such a topic is counted by. There is no
    stack trace in a verdict about data; its first line stands for it.
    """
    values = {
        "topic": letter.topic,
        "partition": str(letter.partition),
        "offset": str(letter.offset),
        "stage": letter.stage,
        "exception.class.name": letter.reason,
        "exception.message": letter.message,
        "exception.stacktrace": f"{letter.reason}: {letter.message}",
    }
    return [
        *letter.headers,
        *((f"__connect.errors.{name}", value.encode()) for name, value in values.items()),
    ]


def _text(value: bytes | None) -> str:
    """A header's value as printable ASCII; anything else is none of ours."""
    text = (value or b"").decode("ascii", "replace")
    return text if text.isascii() and text.isprintable() else ""


def _number(digits: str, largest: int) -> int | None:
    if not digits.isdecimal() or len(digits) > len(str(largest)):
        return None
    number = int(digits)
    return number if number <= largest else None
