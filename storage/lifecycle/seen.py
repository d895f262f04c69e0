"""Adapters that have seen an erased review: fitted or judged on it, grown from one that was, or holding it.

They may not be promoted any more, and the next training run replaces the one that serves.
"""

from sqlalchemy import Connection, text

from reviews.erasure import SeenBy
from reviews.errors import AdapterError

_ENSEMBLE_FILE = "ensemble.json"
# By the dataset of the run that made it, by its files, by its parent, and as an ensemble by a member.
SEEN = f"""
WITH RECURSIVE seen (id, version) AS (
    (SELECT a.id, a.version
       FROM erasure_run e
       JOIN training_run t ON t.id = e.run_id
       JOIN adapter a ON a.version = t.candidate_adapter
      WHERE e.erasure_id = CAST(:erasure AS integer) OR CAST(:erasure AS integer) IS NULL
     UNION
     SELECT a.id, a.version FROM erasure_adapter e JOIN adapter a ON a.id = e.adapter_id
      WHERE e.erasure_id = CAST(:erasure AS integer) OR CAST(:erasure AS integer) IS NULL)
    UNION
    SELECT a.id, a.version
      FROM seen
      JOIN adapter a ON a.parent = seen.version
        OR EXISTS (SELECT FROM adapter_file f
                    WHERE f.adapter_id = a.id AND f.path = '{_ENSEMBLE_FILE}'
                      AND position(convert_to(seen.version, 'UTF8') IN f.content) > 0))
"""  # noqa: S608  a constant
_HAS_SEEN = text(f"{SEEN} SELECT EXISTS (SELECT FROM seen WHERE version = :version)")  # noqa: S608  ours
# Also a dataset that was written while its reviews were being erased.
_RUN_HAS_SEEN = text("""
SELECT EXISTS (SELECT FROM erasure_run WHERE run_id = :run)
    OR EXISTS (SELECT FROM training_item i JOIN erasure_record r ON r.record = i.record WHERE i.run_id = :run)
""")
_ANY = text("SELECT EXISTS (SELECT FROM erasure_run) OR EXISTS (SELECT FROM erasure_adapter)")
# A member of a serving ensemble serves, too.
SERVING = f"""
, serving (id) AS (
    SELECT adapter_id FROM active_adapter
    UNION
    SELECT adapter_id FROM adapter_shadow WHERE ended_at IS NULL
    UNION
    SELECT member.id
      FROM (SELECT adapter_id FROM active_adapter
            UNION SELECT adapter_id FROM adapter_shadow WHERE ended_at IS NULL) own
      JOIN adapter_file f ON f.adapter_id = own.adapter_id AND f.path = '{_ENSEMBLE_FILE}'
      JOIN adapter member ON position(convert_to(member.version, 'UTF8') IN f.content) > 0)
"""  # noqa: S608  the same
_LIST = text(f"{SEEN}{SERVING} SELECT version, id IN (SELECT id FROM serving) FROM seen ORDER BY version")  # noqa: S608
_RETIRE = text(f"""
{SEEN}{SERVING}
DELETE FROM adapter_file f USING seen
 WHERE f.adapter_id = seen.id AND seen.id NOT IN (SELECT id FROM serving)
""")  # noqa: S608  the same


def require_unseen(connection: Connection, version: str, run: int | None = None) -> None:
    """Refuse to let an adapter serve that has seen an erased review.

    Args:
        connection: In the transaction that would activate it.
        version: The adapter.
        run: The training run that made it just now.

    Raises:
        AdapterError: If it has.
    """
    is_of_run = run is not None and connection.execute(_RUN_HAS_SEEN, {"run": run}).scalar()
    if is_of_run or has_seen(connection, version):
        raise AdapterError(
            f"{version} has seen a review that was erased, so it may not serve: nothing was changed. The "
            "next training run makes another one."
        )


def has_seen(connection: Connection, version: str) -> bool:
    """Whether an adapter has seen an erased review; one look at two empty tables where nothing was erased."""
    if not connection.execute(_ANY).scalar():
        return False
    return bool(connection.execute(_HAS_SEEN, {"version": version, "erasure": None}).scalar())


def adapters_that_saw(connection: Connection, erasure: int) -> list[SeenBy]:
    """Every registered adapter that has seen a review of this erasure, in order of versions."""
    return [SeenBy(*row) for row in connection.execute(_LIST, {"erasure": erasure})]


def retire(connection: Connection, erasure: int) -> int:
    """Delete the files of those that serve no more, so that none comes back; how many files."""
    return connection.execute(_RETIRE, {"erasure": erasure}).rowcount
