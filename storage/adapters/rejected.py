"""Adapters that the gate rejected: why, and when they are deleted.

A rejected adapter can be looked at, tried as a shadow and promoted by a person who says why. It is deleted
after a while, unless something depends on it: a running trial, an ensemble, or an adapter that was
trained from it. What it said in a trial stays, and then its record does too, without files.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, text

from storage.database import Database

_ENSEMBLE_FILE = "ensemble.json"
_WHY = text("""
SELECT verdict -> 'reasons' FROM training_run
 WHERE candidate_adapter = :version AND verdict IS NOT NULL ORDER BY id DESC LIMIT 1
""")
# A run that makes the same adapter again is one more night that rejected it: the last one counts.
# Locked before anything is decided: who promotes it at this moment changes its state first, or waits.
_AGED = text(f"""
SELECT a.id, a.version
  FROM adapter a
 WHERE a.state = 'rejected' AND a.created_at < clock_timestamp() - make_interval(secs => :seconds)
   AND NOT EXISTS (SELECT FROM training_run t
                    WHERE t.candidate_adapter = a.version
                      AND t.started_at >= clock_timestamp() - make_interval(secs => :seconds))
   AND EXISTS (SELECT FROM adapter_file f WHERE f.adapter_id = a.id)
   AND NOT EXISTS (SELECT FROM adapter_activation s WHERE s.adapter_id = a.id)
   AND NOT EXISTS (SELECT FROM adapter_shadow s WHERE s.adapter_id = a.id AND s.ended_at IS NULL)
   AND NOT EXISTS (SELECT FROM rescore_job j WHERE j.adapter_id = a.id AND j.state = 'running')
   AND NOT EXISTS (SELECT FROM adapter child WHERE child.parent = a.version)
   AND NOT EXISTS (SELECT FROM adapter_file f
                    WHERE f.path = '{_ENSEMBLE_FILE}' AND f.adapter_id <> a.id
                      AND position(convert_to(a.version, 'UTF8') IN f.content) > 0)
 ORDER BY a.id
   FOR UPDATE OF a SKIP LOCKED
""")  # noqa: S608  a constant
# What has its number somewhere: an answer in a trial, or a job that has ended.
_IS_REFERRED_TO = text("""
SELECT EXISTS (SELECT FROM adapter_shadow s WHERE s.adapter_id = :id)
    OR EXISTS (SELECT FROM rescore_job j WHERE j.adapter_id = :id)
    OR EXISTS (SELECT FROM erasure_adapter e WHERE e.adapter_id = :id)
    OR EXISTS (SELECT FROM prediction p WHERE p.adapter_id = :id)
    OR EXISTS (SELECT FROM prediction_history h WHERE h.adapter_id = :id)
""")
_DELETE_FILES = text("DELETE FROM adapter_file WHERE adapter_id = :id")
_DELETE = text("DELETE FROM adapter WHERE id = :id")


class PrunedAdapter(NamedTuple):
    """A rejected adapter that was deleted, or would be.

    Attributes:
        version: Its name.
        keeps_record: Whether its record stays without files, for what it said in a trial.
    """

    version: str
    keeps_record: bool


def why_rejected(database: Database, version: str) -> tuple[str, ...]:
    """What the gate said of an adapter, a sentence each; nothing where no run here made it."""
    found = database.fetch_value(_WHY, {"version": version})
    return tuple(map(str, found)) if isinstance(found, list) else ()


def prune_rejected(
    database: Database, older_than_days: float, *, is_rehearsal: bool = False
) -> list[PrunedAdapter]:
    """Delete the adapters that were rejected longer ago than this and that nothing depends on.

    Args:
        database: Where they are.
        older_than_days: Since the last run that made them, or since they were registered.
        is_rehearsal: Say which would be deleted, and delete none.

    Raises:
        Unavailable: If the database does not answer.
    """
    with database.begin() as connection:
        rows = connection.execute(_AGED, {"seconds": older_than_days * 86_400}).all()
        aged = [(row.id, PrunedAdapter(row.version, _is_referred_to(connection, row.id))) for row in rows]
        if not is_rehearsal:
            _delete(connection, aged)
    return [one for _, one in aged]


def _is_referred_to(connection: Connection, number: int) -> bool:
    return bool(connection.execute(_IS_REFERRED_TO, {"id": number}).scalar_one())


def _delete(connection: Connection, aged: Sequence[tuple[int, PrunedAdapter]]) -> None:
    for number, one in aged:
        connection.execute(_DELETE_FILES if one.keeps_record else _DELETE, {"id": number})
