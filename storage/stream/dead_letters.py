"""Dead letters: choose, read, publish and discard them, and settle those that are replayed."""

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    Select,
    and_,
    cast,
    exists,
    false,
    func,
    literal,
    or_,
    select,
    text,
    update,
)

from reviews.dead_letter import (
    DeadLetter,
    DeadLetterStage,
    RecordHeaders,
    Replay,
    StoredLetter,
    kept_headers,
)
from reviews.record_id import MAX_OFFSET, OFFSET_BITS, record_id
from reviews.record_value import CutBytes
from reviews.stream_records import PartitionRange
from storage.copying import JSONB_VERSION, copy_rows
from storage.database import Database
from storage.schema.stream import dead_letter, stream_partition

Place = tuple[str, int, int]
"""Topic, partition and offset."""

_COPY = (
    "COPY dead_letter (record, stage, error, message, raw, key, received_at, timestamp_ms, raw_full_bytes, "
    "raw_sha256, key_full_bytes, key_sha256, to_forward, headers) FROM STDIN (FORMAT BINARY)"
)
_COPY_TYPES = (
    "int8", "text", "text", "text", "bytea", "bytea", "timestamptz", "int8",
    "int8", "text", "int8", "text", "bool", "bytea",  # the last one is JSONB as it is sent
)  # fmt: skip
_FORWARD_LOCK = 0x466F7277617264  # one process at a time publishes: in order, and nothing twice
_READ_AT_ONCE = 20
_READ_BYTES = 1024 * 1024
_SLOW_SECONDS = 600

_columns = dead_letter.c
_BITS = literal(OFFSET_BITS, Integer)  # PostgreSQL shifts by an integer, never by a bigint
_OFFSET = _columns.record.bitwise_and(literal(MAX_OFFSET, BigInteger))
_KEPT_BYTES = func.coalesce(func.octet_length(_columns.raw), 0)  # of a large value without reading it
# Dead letters, whole, each with the place of the one that it was another attempt at.
_LETTERS = text(f"""
SELECT d.record, s.topic, s.topic_id, s.partition, d.record & {MAX_OFFSET}, d.stage, d.error, d.message,
       d.raw, d.key, d.state, d.timestamp_ms, d.received_at,
       first.topic_id, first.partition, d.replay_of & {MAX_OFFSET},
       d.raw_full_bytes, d.raw_sha256, d.key_full_bytes, d.key_sha256, d.headers
  FROM dead_letter d
  JOIN stream_partition s ON s.id = CAST(d.record >> {OFFSET_BITS} AS integer)
  LEFT JOIN stream_partition first ON first.id = CAST(d.replay_of >> {OFFSET_BITS} AS integer)
 WHERE d.record = ANY(:records) ORDER BY d.record
""")  # noqa: S608  nothing but numbers


@dataclass(frozen=True, slots=True)
class Choice:
    """Which dead letters are meant.

    Attributes:
        places: These, in whatever state; without places and records, those that wait.
        error: Only those with this reason.
        records: These, by their numbers here, in whatever state.
        stage: Only those that failed there.
        limit: At most so many, those first that were received first; None: all of them.
    """

    places: tuple[Place, ...] = ()
    error: str | None = None
    records: tuple[int, ...] = ()
    stage: DeadLetterStage | None = None
    limit: int | None = None


class ChosenLetter(NamedTuple):
    """A dead letter that is meant: what names it here, what names it to people, and its state.

    Attributes:
        record: The number that names it in this database.
        place: Its topic, partition and offset.
        state: ``waiting``, ``replayed``, ``discarded`` or ``superseded``.
        is_cut: Whether only the beginning of its value or key was kept, or not all of its headers.
        kept_bytes: How many bytes of its value were.
    """

    record: int
    place: Place
    state: str
    is_cut: bool
    kept_bytes: int


class DeadLetterStore:
    """Reads and settles dead letters.

    Raises:
        Unavailable: From every method, if the database does not answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def choose(self, choice: Choice) -> list[ChosenLetter]:
        """Those that are meant, by topic, in order; of several attempts at one, the latest."""
        query = (
            select(
                _columns.record,
                stream_partition.c.topic,
                stream_partition.c.partition,
                _OFFSET,
                _columns.state,
                or_(
                    _columns.raw_full_bytes.is_not(None),
                    _columns.key_full_bytes.is_not(None),
                    func.coalesce(_columns.headers.op("@?")(text("'$[*].left_out'")), false()),
                ),
                _KEPT_BYTES,
            )
            .join(stream_partition, stream_partition.c.id == _stream_of(_columns.record))
            .where(_columns.record.in_(_oldest(choice)) if choice.limit else and_(*_conditions(choice)))
            .order_by(stream_partition.c.topic, _columns.record)
        )
        return [
            ChosenLetter(record, (topic, partition, offset), *rest)
            for record, topic, partition, offset, *rest in self._database.fetch(query)
        ]

    def read(self, letters: Sequence[ChosenLetter]) -> Iterator[StoredLetter]:
        """These dead letters, whole, in this order; those that are gone meanwhile are left out.

        They come out of the database a few at a time, a large one alone.
        """
        sizes = [(letter.record, letter.kept_bytes) for letter in letters]
        while some := _fitting(sizes[:_READ_AT_ONCE], _READ_BYTES):
            del sizes[: len(some)]
            found = {
                letter.record: letter for letter in _read(self._database.fetch(_LETTERS, {"records": some}))
            }
            yield from (found[record] for record in some if record in found)

    def discard(self, records: Sequence[int], reason: str) -> int:
        """Settle these, with every attempt at them that waits, for a reason that is kept; how many."""
        first = select(func.coalesce(_columns.replay_of, _columns.record)).where(
            _columns.record == func.any(list(records))
        )
        statement = (
            update(dead_letter)
            .where(
                or_(_columns.record.in_(first), _columns.replay_of.in_(first)), _columns.state == "waiting"
            )
            .values(state="discarded", state_reason=reason, state_changed_at=func.now())
        )
        return self._database.execute(statement)

    def forward(
        self,
        publish: Callable[[list[StoredLetter]], None],
        *,
        max_letters: int = 500,
        max_bytes: int = 16 * 1024 * 1024,
    ) -> int:
        """Publish the oldest ones that the dead-letter topic does not have yet.

        They lose their marks when ``publish`` has returned; a crash in between publishes them once more.

        Args:
            publish: Returns when the topic has them.
            max_letters: At most so many in one go.
            max_bytes: About so many bytes in one go, and one letter at least.

        Returns:
            How many; 0 also while another process is at it.
        """
        with self._database.begin() as connection:
            if not connection.execute(select(func.pg_try_advisory_xact_lock(_FORWARD_LOCK))).scalar():
                return 0
            sizes = connection.execute(
                select(_columns.record, _KEPT_BYTES)
                .where(_columns.to_forward)
                .order_by(_columns.record)
                .limit(max_letters)
            )
            records = _fitting([(row[0], row[1]) for row in sizes], max_bytes)
            if not records:
                return 0
            # It holds that lock alone, and brokers may take longer than a worker's transaction should.
            connection.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = '{_SLOW_SECONDS}s'"))
            publish(list(_read(connection.execute(_LETTERS, {"records": records}))))
            connection.execute(
                update(dead_letter).where(_columns.record.in_(records)).values(to_forward=False)
            )
        return len(records)


def _oldest(choice: Choice) -> Select[tuple[int]]:
    return (
        select(_columns.record)
        .where(*_conditions(choice))
        .order_by(_columns.received_at, _columns.record)
        .limit(choice.limit)
    )


def _conditions(choice: Choice) -> Iterator[ColumnElement[bool]]:
    if choice.places:
        yield or_(*(_is_at(place) for place in choice.places))
    elif choice.records:
        yield _columns.record == func.any(list(choice.records))
    else:
        yield _columns.state == "waiting"
        yield ~_has_later_attempt()
    if choice.stage is not None:
        yield _columns.stage == choice.stage
    if choice.error is not None:
        yield _columns.error == choice.error


def _is_at(place: Place) -> ColumnElement[bool]:
    topic, partition, offset = place
    base = cast(stream_partition.c.id, BigInteger).bitwise_lshift(_BITS)
    return and_(
        stream_partition.c.topic == topic,
        stream_partition.c.partition == partition,
        _columns.record == base.bitwise_or(literal(offset, BigInteger)),
    )


def _has_later_attempt() -> ColumnElement[bool]:
    """Whether a dead letter was replayed already and failed again: then that attempt counts for both."""
    later = dead_letter.alias("later")
    return exists().where(
        later.c.replay_of == func.coalesce(_columns.replay_of, _columns.record),
        later.c.state == "waiting",
        or_(
            later.c.received_at > _columns.received_at,
            and_(later.c.received_at == _columns.received_at, later.c.record > _columns.record),
        ),
    )


def _stream_of(record: ColumnElement[Any]) -> ColumnElement[int]:
    return cast(record.bitwise_rshift(_BITS), Integer)


def _read(rows: Any) -> Iterator[StoredLetter]:
    for *values, topic_id, partition, offset, raw_bytes, raw_sha256, key_bytes, key_sha256, headers in rows:
        origin = None if topic_id is None else Replay(topic_id, partition, offset)
        letter = StoredLetter._make((*values, origin, _read_headers(headers)))
        raw = _as_stored(letter.raw, raw_bytes, raw_sha256)
        yield letter._replace(raw=raw, key=_as_stored(letter.key, key_bytes, key_sha256))


def _as_stored(value: bytes | None, whole_bytes: int | None, sha256: str | None) -> bytes | None:
    if value is None or whole_bytes is None:
        return value
    return CutBytes(value, whole_bytes, sha256 or "")


def copy_dead_letters(
    connection: Connection, ranges: Iterable[PartitionRange[Any]], *, forward: bool
) -> None:
    """Store the dead letters of ranges, as a part of the connection's transaction.

    Args:
        connection: In a transaction.
        ranges: What they are in.
        forward: Whether they are marked to be published on their Kafka topic as well.
    """
    rows = [_row(part.partition_id, letter, forward) for part in ranges for letter in part.dead_letters]
    if rows:
        copy_rows(connection, _COPY, _COPY_TYPES, rows)


def _row(partition_id: int, letter: DeadLetter, forward: bool) -> tuple[Any, ...]:
    return (
        record_id(partition_id, letter.offset),
        letter.stage,
        letter.reason,
        letter.message,
        letter.raw,
        letter.key,
        letter.received_at,
        letter.kafka_ms,  # the column timestamp_ms
        *_whole(letter.raw),
        *_whole(letter.key),
        forward,
        _written_headers(letter.headers),
    )


def _written_headers(headers: RecordHeaders) -> bytes | None:
    """Headers as JSONB in the binary format: text where they are text, Base64 elsewhere; None without any."""
    if not headers:
        return None
    kept, left_out = kept_headers(headers)
    entries: list[dict[str, object]] = [{"name": name, **_written_value(value)} for name, value in kept]
    if left_out:
        entries.append({"left_out": left_out})
    return JSONB_VERSION + json.dumps(entries).encode() if entries else None


def _written_value(value: bytes | None) -> dict[str, str | None]:
    try:
        as_text = None if value is None else value.decode()
    except UnicodeDecodeError:
        as_text = "\x00"
    if value is None or "\x00" not in (as_text or ""):
        return {"value": as_text}
    return {"base64": base64.b64encode(value).decode()}


def _read_headers(entries: list[dict[str, str | None]] | None) -> RecordHeaders:
    return [
        (entry["name"] or "", base64.b64decode(entry["base64"] or ""))
        if "base64" in entry
        else (entry["name"] or "", None if entry["value"] is None else entry["value"].encode())
        for entry in entries or ()
        if "name" in entry
    ]


def _whole(value: bytes | None) -> tuple[int | None, str | None]:
    """Size and hash of a value of which the row holds the beginning; nothing of a whole one."""
    return (value.full_bytes, value.sha256) if isinstance(value, CutBytes) else (None, None)


def _fitting(sizes: list[tuple[int, int]], max_bytes: int) -> list[int]:
    records: list[int] = []
    total = 0
    for record, size in sizes:
        total += size
        if records and total > max_bytes:
            break
        records.append(record)
    return records


# The first attempt that a header names; none where this database has no such dead letter.
_FIRST = """
SELECT coalesce(named.replay_of, named.record)
  FROM stream_partition s JOIN dead_letter named ON named.record = (s.id::bigint << 40 | :offset)
 WHERE s.topic_id = :topic_id AND s.partition = :partition
"""
# Attempts at one dead letter that end at the same time in two workers see each other by this lock.
_LOCK_FIRST = f"SELECT record FROM dead_letter WHERE record = ({_FIRST}) FOR UPDATE"  # noqa: S608  nothing but the constant above
_COUNT_ATTEMPT = """
UPDATE dead_letter
   SET replay_of = :first,
       attempts = 1 + (SELECT count(*) FROM dead_letter other
                        WHERE (other.record = :first OR other.replay_of = :first) AND other.record <> :record)
 WHERE record = :record
"""
_SUPERSEDE = """
UPDATE dead_letter SET state = 'superseded', state_changed_at = now()
 WHERE (record = :first OR replay_of = :first) AND record <> :record AND state = 'waiting'
"""
# A discarded one as well: a replay by hand overrules that decision, and the review is there.
_ACCEPTED = f"""
UPDATE dead_letter
   SET state = 'replayed', replayed_as = :record, state_changed_at = now(), state_reason = NULL
  FROM ({_FIRST}) first(record)
 WHERE (dead_letter.record = first.record OR dead_letter.replay_of = first.record) AND state <> 'replayed'
"""  # noqa: S608  nothing but the constant above


def note_replays(connection: Connection, ranges: Iterable[PartitionRange[Any]]) -> None:
    """Mark dead letters whose replay was accepted; let those that failed again wait in place of their first.

    However often a record is tried, one dead letter of it waits: the latest attempt, which counts them. A
    replay whose dead letter this database does not know changes nothing: it is a record like any other.
    """
    for part in ranges:
        for row in (*part.accepted, *part.withdrawals):
            if row.replay is not None:
                named = {**_named(row.replay), "record": record_id(part.partition_id, row.offset)}
                connection.execute(text(_ACCEPTED), named)
        for letter in part.dead_letters:
            if letter.replay is not None:
                _settle_earlier(connection, record_id(part.partition_id, letter.offset), letter.replay)


def _settle_earlier(connection: Connection, record: int, replay: Replay) -> None:
    first = connection.execute(text(_LOCK_FIRST), _named(replay)).scalar()
    if first is not None and first != record:
        for statement in (_COUNT_ATTEMPT, _SUPERSEDE):
            connection.execute(text(statement), {"first": first, "record": record})


def _named(replay: Replay) -> dict[str, object]:
    return {"topic_id": replay.topic_id, "partition": replay.partition, "offset": replay.offset}
