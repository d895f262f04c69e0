"""Erasures as an export applies them: whose rows leave its files, and what the receipts say of it.

A receipt names a day of an export before its files are rewritten. So nothing is counted twice or missed,
wherever a process is killed.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import text

from reviews.record_id import MAX_OFFSET, OFFSET_BITS
from storage.database import Database

PLACE = "export "
"""What the places of receipts begin with that are exports; the target's name follows."""
_REWRITTEN = "rewritten without them"

_IS_REPLICA = text("SELECT pg_is_in_recovery()")
_FINISHED = text("SELECT id, requested_at FROM erasure WHERE stage = 'done' ORDER BY id")
_HASHES = text("SELECT hash FROM erasure_review WHERE erasure_id = :erasure")
_RECORDS = text("SELECT record FROM erasure_record WHERE erasure_id = :erasure")
_ENDS = text("SELECT stream_partition_id, next_offset FROM erasure_position WHERE erasure_id = :erasure")
# A sealed receipt stays as it is.
_NOTE = text("""
INSERT INTO erasure_finding AS f (erasure_id, place, rows, state, detail)
SELECT id, :place, :rows, 'open', 'being rewritten' FROM erasure WHERE id = :erasure AND closed_at IS NULL
ON CONFLICT (erasure_id, place) DO UPDATE SET rows = greatest(f.rows, excluded.rows)
""")
_SETTLE = text("""
UPDATE erasure_finding SET state = 'erased', detail = :detail
 WHERE erasure_id = ANY(:erasures) AND state = 'open' AND (place = :place OR starts_with(place, :below))
""")


class ExportErasure(NamedTuple):
    """One erasure, and which rows it is about.

    Attributes:
        id: Its number.
        requested_at: When it was asked for (UTC), which also names it after a restore.
        hashes: Of the erased ids.
        records: Of the erased versions, as far as the database knew them.
        ends: Where each stored partition ended then; what came later is a new review.
    """

    id: int
    requested_at: datetime
    hashes: frozenset[bytes]
    records: frozenset[int]
    ends: Mapping[int, int]

    def is_before(self, record: int, received_at: datetime) -> bool:
        """Whether a row is of a version from before the erasure."""
        end = self.ends.get(record >> OFFSET_BITS)
        return received_at <= self.requested_at if end is None else record & MAX_OFFSET < end


class ExportErasures:
    """Which erasures a target has not had yet, and the notes on their receipts.

    Args:
        database: Where the receipts are.
        target: The export's target, as the receipts name it.

    Raises:
        Unavailable: From every method, if the database does not answer.
    """

    def __init__(self, database: Database, target: str) -> None:
        self._database = database
        self._target = target

    def can_note(self) -> bool:
        """Whether receipts can be written here, which a replica cannot."""
        return not self._database.fetch_value(_IS_REPLICA)

    def to_apply(self, applied: Collection[datetime]) -> list[ExportErasure]:
        """Erasures that the database is done with, without those that were applied before."""
        rows = self._database.fetch(_FINISHED)
        return [self._read(row.id, row.requested_at) for row in rows if row.requested_at not in applied]

    def note(self, erasure: int, part: str, rows: int) -> None:
        """Note on a receipt that a part of the target holds rows, and is about to be rewritten.

        Args:
            erasure: The receipt.
            part: Such as ``reviews/day=2026-05-01``.
            rows: How many.
        """
        place = f"{PLACE}{self._target}/{part}"
        self._database.execute(_NOTE, {"erasure": erasure, "place": place, "rows": rows})

    def settle(self, erasures: Sequence[int]) -> None:
        """Note that the target holds no row any more of these erasures."""
        place = f"{PLACE}{self._target}"
        given = {"erasures": list(erasures), "place": place, "below": f"{place}/", "detail": _REWRITTEN}
        self._database.execute(_SETTLE, given)

    def _read(self, number: int, requested_at: datetime) -> ExportErasure:
        given = {"erasure": number}
        return ExportErasure(
            number,
            requested_at,
            frozenset(bytes(one) for one in self._database.fetch_values(_HASHES, given)),
            frozenset(self._database.fetch_values(_RECORDS, given)),
            {row.stream_partition_id: row.next_offset for row in self._database.fetch(_ENDS, given)},
        )
