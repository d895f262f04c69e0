"""What can be seen of the database without changing anything."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from storage.database import Database

OLDEST_SERVER = 15
"""The first PostgreSQL with ``UNIQUE NULLS NOT DISTINCT``, which activations rest on."""


@dataclass(frozen=True, slots=True)
class DatabaseReport:
    """What the server says.

    Attributes:
        version: Such as ``18.4``.
        major_version: Such as 18.
        user: Who we are to it.
        is_replica: Whether it only follows another one and takes no writes.
        is_encrypted: Whether this connection is.
        clock: The server's time (UTC).
        time_outs: What is in force in a transaction, in seconds by PostgreSQL's names; 0: none.
    """

    version: str
    major_version: int
    user: str
    is_replica: bool
    is_encrypted: bool
    clock: datetime
    time_outs: dict[str, float]


_QUESTION = text("""
SELECT current_setting('server_version'), current_setting('server_version_num')::int / 10000, current_user,
       pg_is_in_recovery(), coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false),
       clock_timestamp()
""")
_IN_FORCE = text(
    "SELECT name, setting::float / 1000 AS seconds FROM pg_settings WHERE name = ANY(:names)"
)  # from ms


def look(database: Database) -> DatabaseReport:
    """Ask the server about itself.

    Raises:
        Unavailable: If it does not answer.
        ReviewLoopError: If it does not let us in.
    """
    with database.begin() as connection:
        row = connection.execute(_QUESTION).one()
        settings = connection.execute(_IN_FORCE, {"names": list(database.time_outs)})
        in_force = {setting.name: setting.seconds for setting in settings}
        return DatabaseReport(*row, in_force)  # type: ignore[call-arg]  # a row of six
