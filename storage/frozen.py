"""Writers that froze in the middle of a COPY: whoever needs their locks ends their connections.

A process can be stopped at any moment, by a debugger, a suspended machine or a paused container. Between two
statements, PostgreSQL itself ends its transaction (``idle_in_transaction_session_timeout``). In the middle
of a COPY it does not: the server waits for the client's data, where neither that time-out nor
``statement_timeout`` nor ``transaction_timeout`` is looked at, and the kernel of a frozen process goes on
answering TCP keep-alives. The offset's row would stay locked for ever.
"""

import structlog
from sqlalchemy import text

from storage.database import APPLICATION, Database

log = structlog.get_logger()

# Sessions of the same role and program, so that no right is needed that a writer does not have.
_END = text(
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
    "WHERE datname = current_database() AND usename = current_user AND application_name = :application "
    "AND state = 'active' AND wait_event = 'ClientRead' AND query_start < now() - :patience * interval '1 s'"
)


def end_frozen_writers(database: Database) -> int:
    """End the sessions whose statement has waited for its client's data for too long; how many there were.

    Raises:
        Unavailable: If the database does not answer.
    """
    with database.begin() as connection:
        ended: int = connection.execute(
            _END, {"application": APPLICATION, "patience": database.lock_patience_seconds}
        ).scalar_one()
    if ended:
        log.warning("frozen_writers_ended", sessions=ended)
    return ended
