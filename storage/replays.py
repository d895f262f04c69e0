"""What the one transaction of the main path does for records that are replayed dead letters; rare."""

from collections.abc import Sequence

from sqlalchemy import Connection, text

from reviews.batch import DeadLetter, PartitionRange, Replay, record_id

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
# A discarded one as well: whoever replayed it by hand changed their mind, and the review is there.
_ACCEPTED = f"""
UPDATE dead_letter
   SET state = 'replayed', replayed_as = :record, state_changed_at = now(), state_reason = NULL
  FROM ({_FIRST}) first(record)
 WHERE (dead_letter.record = first.record OR dead_letter.replay_of = first.record) AND state <> 'replayed'
"""  # noqa: S608  nothing but the constant above


def note_replays(connection: Connection, ranges: Sequence[PartitionRange]) -> None:
    """Mark dead letters whose replay was accepted; let those that failed again wait in place of their first.

    However often a record is tried, one dead letter of it waits: the latest attempt, which counts them. A
    replay whose dead letter this database does not know changes nothing: it is a review like any other.
    """
    for part in ranges:
        note_outcomes(connection, part.partition_id, part.replays, part.dead_letters)


def note_outcomes(
    connection: Connection,
    partition_id: int,
    accepted: Sequence[tuple[int, Replay]],
    dead_letters: Sequence[DeadLetter],
) -> None:
    """The same for one partition.

    Args:
        connection: The transaction.
        partition_id: The stored id of the partition.
        accepted: The replays that were accepted: (offset, the dead letter).
        dead_letters: What was refused, replays or not.
    """
    for offset, replay in accepted:
        named = {**_named(replay), "record": record_id(partition_id, offset)}
        connection.execute(text(_ACCEPTED), named)
    for letter in dead_letters:
        if letter.replay is not None:
            _settle_earlier(connection, record_id(partition_id, letter.offset), letter.replay)


def _settle_earlier(connection: Connection, record: int, replay: Replay) -> None:
    first = connection.execute(text(_LOCK_FIRST), _named(replay)).scalar()
    if first is not None and first != record:
        for statement in (_COUNT_ATTEMPT, _SUPERSEDE):
            connection.execute(text(statement), {"first": first, "record": record})


def _named(replay: Replay) -> dict[str, object]:
    return {"topic_id": replay.topic_id, "partition": replay.partition, "offset": replay.offset}
