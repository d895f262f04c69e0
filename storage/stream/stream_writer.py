"""One transaction for ranges of several partitions.

Their offsets move and their rows appear together, or neither (I1).
"""

from collections.abc import Sequence
from typing import Generic, NamedTuple

from sqlalchemy import Connection

from reviews.stream_records import PartitionRange, StorableT
from storage.database import Database, end_frozen_writers
from storage.errors import Blocked
from storage.lifecycle.guard import without_erased
from storage.stream.dead_letters import copy_dead_letters, note_replays
from storage.stream.partitions import PartitionMove, advance
from storage.stream.withdrawals import copy_withdrawals


class Written(NamedTuple, Generic[StorableT]):
    """What one transaction did, or several one after the other.

    Attributes:
        ranges: What was stored, as it was stored.
        lost: The ids of the partitions that another worker moved meanwhile; nothing of theirs was written.
    """

    ranges: list[PartitionRange[StorableT]]
    lost: frozenset[int]


class StreamWriter(Generic[StorableT]):
    """Stores ranges with an exactly-once effect (invariants I1, I2 and I4); a subclass stores its rows.

    Args:
        database: Where to.
        forward_dead_letters: Whether dead letters are marked to be published on their Kafka topic as well.
    """

    def __init__(self, database: Database, *, forward_dead_letters: bool = False) -> None:
        self._database = database
        self._forward = forward_dead_letters

    def write(self, ranges: Sequence[PartitionRange[StorableT]]) -> Written[StorableT]:
        """Store every range whose position is still the expected one, all in one transaction.

        Args:
            ranges: At most one per partition.

        Raises:
            Unavailable: If the database does not answer; the transaction may have been committed all the
                same, which a repeated call finds out by compare-and-set.
            Unstorable: If the database refuses the values of a record, so that nothing was written.
            ReviewLoopError: If a prediction names an adapter that is not registered.
        """
        return self._transact(ranges, keep=True)

    def rehearse(self, ranges: Sequence[PartitionRange[StorableT]]) -> None:
        """Store the ranges and take it back at once, to learn whether the database would do it.

        Raises:
            Unavailable: As :meth:`write` would.
            Unstorable: As :meth:`write` would.
        """
        self._transact(ranges, keep=False)

    def _transact(self, ranges: Sequence[PartitionRange[StorableT]], *, keep: bool) -> Written[StorableT]:
        try:
            with self._database.begin() as connection:
                # 1. Positions.
                moved = advance(
                    connection,
                    [PartitionMove(part.partition_id, part.expected, part.next) for part in ranges],
                )
                owned = [part for part in ranges if part.partition_id in moved]
                # 2. Rows of the ranges that are ours, but for those of erased reviews.
                stored = self._store(connection, without_erased(connection, owned, moved, self._about))
                copy_withdrawals(connection, stored)
                copy_dead_letters(connection, stored, forward=self._forward)
                note_replays(connection, stored)
                # 3. The commit makes both visible at once.
                if not keep:
                    connection.rollback()
        except Blocked:
            end_frozen_writers(self._database)  # then the next attempt finds the way free
            raise
        return Written(stored, frozenset(part.partition_id for part in ranges) - moved.keys())

    def _about(self, row: StorableT) -> tuple[str, int]:
        """The id of the review that a row is about, and Kafka's time of its record in milliseconds."""
        raise NotImplementedError

    def _store(
        self, connection: Connection, ranges: list[PartitionRange[StorableT]]
    ) -> list[PartitionRange[StorableT]]:
        """Store the accepted rows; the ranges with those that were refused among their dead letters."""
        raise NotImplementedError
