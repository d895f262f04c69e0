"""Dead letters by state, stage and reason: counted up to a bound, and listed page by page.

Both follow the index ``dead_letter_reason_idx``, so that their price depends on what is shown and not on how
many dead letters there are.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import text

from reviews.dead_letter import DeadLetterStage
from reviews.record_id import MAX_OFFSET, OFFSET_BITS
from storage.database import Database

COUNTED_LETTERS = 10_000
"""Where counting stops; a group with more is said to have one more than this."""

# The distinct reasons of one state, each found by one step in the index.
_REASONS = """
WITH RECURSIVE reason (stage, error) AS (
  (SELECT stage, error FROM dead_letter WHERE state = :state ORDER BY stage, error LIMIT 1)
  UNION ALL
  SELECT further.stage, further.error
    FROM reason
   CROSS JOIN LATERAL (SELECT d.stage, d.error FROM dead_letter d
                        WHERE d.state = :state AND (d.stage, d.error) > (reason.stage, reason.error)
                        ORDER BY d.stage, d.error LIMIT 1) further
)
"""
_COUNTS = text(f"""
{_REASONS}
SELECT reason.stage, reason.error, counted.letters, latest.received_at
  FROM reason
 CROSS JOIN LATERAL (SELECT count(*) AS letters
                       FROM (SELECT FROM dead_letter d
                              WHERE d.state = :state AND d.stage = reason.stage AND d.error = reason.error
                              LIMIT {COUNTED_LETTERS + 1}) bounded) counted
 CROSS JOIN LATERAL (SELECT d.received_at FROM dead_letter d
                      WHERE d.state = :state AND d.stage = reason.stage AND d.error = reason.error
                      ORDER BY d.received_at DESC, d.record DESC LIMIT 1) latest
 ORDER BY counted.letters DESC, reason.stage, reason.error
""")  # noqa: S608  constants
_COLUMNS = f"""
d.record, s.topic, s.partition, d.record & {MAX_OFFSET}, d.stage, d.error, d.message, d.state, d.received_at,
d.attempts, coalesce(d.raw_full_bytes, octet_length(d.raw)),
d.raw_full_bytes IS NOT NULL OR d.key_full_bytes IS NOT NULL OR coalesce(d.headers @? '$[*].left_out', false),
substring(d.raw FOR :shown_bytes),
d.state_changed_at, d.state_reason, d.replay_of, d.replayed_as
"""
_PARTITION = f"JOIN stream_partition s ON s.id = CAST(d.record >> {OFFSET_BITS} AS integer)"
# The latest of each reason, and of these the latest of all.
_LIST = text(f"""
{_REASONS}
SELECT {_COLUMNS}
  FROM (SELECT latest.*
          FROM reason
         CROSS JOIN LATERAL (SELECT d.* FROM dead_letter d
                              WHERE d.state = :state AND d.stage = reason.stage AND d.error = reason.error
                                AND (d.received_at, d.record) < (:received_at, :record)
                              ORDER BY d.received_at DESC, d.record DESC LIMIT :limit) latest
         WHERE (CAST(:stage AS text) IS NULL OR reason.stage = :stage)
           AND (CAST(:reason AS text) IS NULL OR reason.error = :reason)
         ORDER BY latest.received_at DESC, latest.record DESC LIMIT :limit) d
  {_PARTITION}
 ORDER BY d.received_at DESC, d.record DESC
""")  # noqa: S608  constants
_ONE = text(f"SELECT {_COLUMNS} FROM dead_letter d {_PARTITION} WHERE d.record = :record")  # noqa: S608  constants
_ATTEMPTS = text(f"""
SELECT {_COLUMNS}
  FROM dead_letter d {_PARTITION}
 WHERE d.record = :first OR d.replay_of = :first
 ORDER BY d.received_at, d.record LIMIT :limit
""")  # noqa: S608  constants
_SHOWN_BYTES = 160
_BEYOND = {"received_at": datetime.max.replace(tzinfo=UTC), "record": 2**63 - 1}


class ReasonCount(NamedTuple):
    """How many dead letters of one state have a reason.

    Attributes:
        stage: Where they failed.
        reason: A short stable name.
        letters: How many; ``COUNTED_LETTERS + 1`` where there are more.
        latest_at: When the latest was received.
    """

    stage: DeadLetterStage
    reason: str
    letters: int
    latest_at: datetime


class LetterLine(NamedTuple):
    """A dead letter as a list shows it.

    Attributes:
        record: The number that names it in this database.
        topic: The topic that it came from.
        partition: Its partition.
        offset: Its offset.
        stage: Where it failed.
        reason: A short stable name for counting.
        message: What was wrong, in a sentence.
        state: ``waiting``, ``replayed``, ``discarded`` or ``superseded``.
        received_at: When a worker had it in hand.
        attempts: How often it was tried.
        full_bytes: The length of its whole value; None for a tombstone.
        is_cut: Whether only the beginning of its value or key was kept, or not all of its headers.
        beginning: The first bytes of its value; None for a tombstone.
        state_changed_at: When it was settled.
        state_reason: Why it was discarded.
        replay_of: The record of the first attempt; None for that one itself.
        replayed_as: The record that was accepted in its place.
    """

    record: int
    topic: str
    partition: int
    offset: int
    stage: DeadLetterStage
    reason: str
    message: str
    state: str
    received_at: datetime
    attempts: int
    full_bytes: int | None
    is_cut: bool
    beginning: bytes | None
    state_changed_at: datetime | None
    state_reason: str | None
    replay_of: int | None
    replayed_as: int | None

    @property
    def place(self) -> str:
        """``TOPIC:PARTITION:OFFSET``, as people name it."""
        return f"{self.topic}:{self.partition}:{self.offset}"


def count_reasons(database: Database, state: str = "waiting") -> list[ReasonCount]:
    """How many dead letters of this state have each reason, the most frequent first."""
    return [ReasonCount(*row) for row in database.fetch(_COUNTS, {"state": state})]


def list_letters(
    database: Database,
    *,
    state: str = "waiting",
    stage: str | None = None,
    reason: str | None = None,
    before: tuple[datetime, int] | None = None,
    limit: int = 50,
) -> list[LetterLine]:
    """The dead letters that match, the latest received first.

    Args:
        database: Where from.
        state: Of these alone.
        stage: Of this stage alone; None: of any.
        reason: With this reason alone; None: with any.
        before: Time of receipt and record of the last one on the page before; None: from the latest on.
        limit: At most so many.
    """
    place = _BEYOND if before is None else {"received_at": before[0], "record": before[1]}
    wanted = {"state": state, "stage": stage, "reason": reason, "limit": limit, **place}
    return _lines(database.fetch(_LIST, {**wanted, "shown_bytes": _SHOWN_BYTES}))


def find_letter(database: Database, record: int) -> LetterLine | None:
    """One dead letter, without its bytes; None where there is none of this number."""
    lines = _lines(database.fetch(_ONE, {"record": record, "shown_bytes": _SHOWN_BYTES}))
    return lines[0] if lines else None


def find_attempts(database: Database, letter: LetterLine, limit: int = 50) -> list[LetterLine]:
    """The attempts at one dead letter, itself among them, the first one first."""
    wanted = {"first": letter.replay_of or letter.record, "limit": limit, "shown_bytes": _SHOWN_BYTES}
    return _lines(database.fetch(_ATTEMPTS, wanted))


def _lines(rows: Sequence[Any]) -> list[LetterLine]:
    return [LetterLine(*row) for row in rows]
