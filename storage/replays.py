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
_FAILED_AGAIN = f"""
UPDATE dead_letter SET replay_of = first.record FROM ({_FIRST}) first(record)
 WHERE dead_letter.record = :record AND first.record <> :record
"""  # noqa: S608  nothing but the constant above
# A discarded one as well: whoever replayed it by hand changed their mind, and the review is there.
_ACCEPTED = f"""
UPDATE dead_letter
   SET state = 'replayed', replayed_as = :record, state_changed_at = now(), state_reason = NULL
  FROM ({_FIRST}) first(record)
 WHERE (dead_letter.record = first.record OR dead_letter.replay_of = first.record) AND state <> 'replayed'
"""  # noqa: S608  nothing but the constant above


def note_replays(connection: Connection, ranges: Sequence[PartitionRange]) -> None:
    """Mark dead letters whose replay was accepted, and tie those that failed again to their first attempt.

    A replay whose dead letter this database does not know changes nothing: it is a review like any other.
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
        _execute(connection, _ACCEPTED, partition_id, offset, replay)
    for letter in dead_letters:
        if letter.replay is not None:
            _execute(connection, _FAILED_AGAIN, partition_id, letter.offset, letter.replay)


def _execute(connection: Connection, statement: str, partition_id: int, offset: int, replay: Replay) -> None:
    named = {"topic_id": replay.topic_id, "partition": replay.partition, "offset": replay.offset}
    connection.execute(text(statement), {**named, "record": record_id(partition_id, offset)})
