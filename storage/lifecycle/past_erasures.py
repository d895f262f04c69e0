"""Erasures that a restored database does not know: listed without ids, and done again by their hashes.

A backup from before an erasure holds what was erased. The hashes of the erased ids lead to them again, by the
ids of all stored reviews. Their positions keep what is still in Kafka from being stored again.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from sqlalchemy import text

from reviews.backup import PastErasure, StoredOffset
from reviews.erasure import erased_hash
from storage.database import Database
from storage.lifecycle.erasure import guard_positions
from storage.lifecycle.guard import possible_ids

_ROWS_AT_ONCE = 20_000
_LETTERS_AT_ONCE = 500

_NOW = text("SELECT clock_timestamp()")
_ERASURES = text("SELECT id, requested_at, requested_by, reason FROM erasure ORDER BY id")
_HASHES = text("SELECT encode(hash, 'hex') FROM erasure_review WHERE erasure_id = :erasure ORDER BY hash")
_ENDS = text("""
SELECT s.cluster_id, s.topic, s.topic_id, s.partition, e.next_offset
  FROM erasure_position e JOIN stream_partition s ON s.id = e.stream_partition_id
 WHERE e.erasure_id = :erasure
""")
_KNOWN = text("SELECT requested_at FROM erasure WHERE requested_at = ANY(:moments)")
_PARTITIONS = text("SELECT id, cluster_id, topic, topic_id, partition FROM stream_partition")
_NEXT_IDS = {
    "review": text("SELECT record, review_id FROM review WHERE record > :after ORDER BY record LIMIT :limit"),
    "withdrawal": text(
        "SELECT record, review_id FROM withdrawal WHERE record > :after ORDER BY record LIMIT :limit"
    ),
    "waiting_label": text(
        "SELECT id, review_id FROM waiting_label WHERE id > :after ORDER BY id LIMIT :limit"
    ),
}
_NEXT_LETTERS = text(
    "SELECT record, key, raw FROM dead_letter WHERE record > :after ORDER BY record LIMIT :limit"
)
_REPEAT = text("""
INSERT INTO erasure (requested_at, requested_by, reason, stage)
VALUES (:at, :by, :reason, :stage) RETURNING id
""")
_SUBJECTS = text("""
INSERT INTO erasure_review (erasure_id, hash, review_id)
SELECT :erasure, hash, review_id
  FROM unnest(CAST(:hashes AS bytea[]), CAST(:ids AS text[])) AS given (hash, review_id)
""")


class PastErasureStore:
    """Lists erasures, and asks for those again that this database does not know.

    Args:
        database: Where from, and where.

    Raises:
        Unavailable: From every method, if the database does not answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def list_all(self) -> tuple[datetime, list[PastErasure]]:
        """Every erasure that was ever asked for, and the server's time before they were read."""
        moment: datetime = self._database.fetch_value(_NOW)
        with self._database.begin() as connection:
            found = []
            for number, *about in connection.execute(_ERASURES).all():
                given = {"erasure": number}
                ends = [StoredOffset(**row) for row in connection.execute(_ENDS, given).mappings()]
                hashes = connection.execute(_HASHES, given).scalars()
                at, by, reason = about
                found.append(
                    PastErasure(
                        requested_at=at,
                        requested_by=by,
                        reason=reason,
                        hashes=tuple(hashes),
                        ends=tuple(ends),
                    )
                )
        return moment, found

    def unknown(self, erasures: Sequence[PastErasure]) -> list[PastErasure]:
        """Those that this database does not know."""
        moments = [one.requested_at for one in erasures]
        known = set(self._database.fetch_values(_KNOWN, {"moments": moments}))
        return [one for one in erasures if one.requested_at not in known]

    def repeat(self, erasures: Sequence[PastErasure]) -> int:
        """Ask for unknown erasures again, as of when they were asked for first; how many reviews were found.

        It walks through all reviews and dead letters: seconds for a million. No worker may run meanwhile.
        Either all are asked for or none.
        """
        if not erasures:
            return 0
        ids = self._ids_of({bytes.fromhex(one) for erasure in erasures for one in erasure.hashes})
        with self._database.begin() as connection:
            partitions = {tuple(row[1:]): row.id for row in connection.execute(_PARTITIONS)}
            for one in erasures:
                hashes = [bytes.fromhex(each) for each in one.hashes]
                named = [ids.get(each) for each in hashes]
                # Of what is not here, there is nothing to erase: it is only kept from coming back.
                stage = "requested" if any(each is not None for each in named) else "deleted"
                given = {
                    "at": one.requested_at,
                    "by": one.requested_by,
                    "reason": one.reason,
                    "stage": stage,
                }
                number: int = connection.execute(_REPEAT, given).scalar_one()
                connection.execute(_SUBJECTS, {"erasure": number, "hashes": hashes, "ids": named})
                guard_positions(connection, number, _ends_here(one, partitions))
        return len(ids)

    def _ids_of(self, wanted: set[bytes]) -> dict[bytes, str]:
        """The ids that are stored anywhere and have one of these hashes."""
        found: dict[bytes, str] = {}
        for review_id in self._stored_ids():
            if (digest := erased_hash(review_id)) in wanted:
                found[digest] = review_id
        return found

    def _stored_ids(self) -> Iterator[str]:
        for query in _NEXT_IDS.values():
            after: int | None = -(2**63)
            while after is not None:
                rows = self._database.fetch(query, {"after": after, "limit": _ROWS_AT_ONCE})
                yield from (row.review_id for row in rows)
                after = rows[-1][0] if rows else None
        after = -(2**63)
        while after is not None:
            letters = self._database.fetch(_NEXT_LETTERS, {"after": after, "limit": _LETTERS_AT_ONCE})
            for letter in letters:
                yield from possible_ids(letter.key, letter.raw)
            after = letters[-1].record if letters else None


def _ends_here(erasure: PastErasure, partitions: Mapping[tuple[str, str, str, int], int]) -> dict[int, int]:
    """Where partitions ended then, by the numbers that they have in this database."""
    keyed = {
        (one.cluster_id, one.topic, one.topic_id, one.partition): one.next_offset for one in erasure.ends
    }
    return {number: keyed[key] for key, number in partitions.items() if key in keyed}
