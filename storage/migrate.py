"""Upgrades the schema to this program's version, and reports its revision."""

import time
from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from reviews.errors import ReviewLoopError, WrongUse
from reviews.retry import Retry
from storage.database import Database
from storage.errors import Blocked

UPGRADE_LOCK = 0x5265766965774C6F
"""Any number of processes may change the schema at once: one works, the others wait for it."""

LOCK_SECONDS = 5
"""How long a migration waits for a table that others use, before it lets them go first and tries again."""

_ATTEMPTS = 20
_PAUSE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """The database's schema compared with this program.

    Attributes:
        current: The revision in the database; None where there is no schema.
        newest: The newest revision that this program knows.
        missing: The revisions still to be applied, oldest first.
        is_newer: Whether the database is at a revision that this program does not know.
    """

    current: str | None
    newest: str
    missing: tuple[str, ...]
    is_newer: bool = False


def upgrade(database: Database, revision: str = "head") -> SchemaStatus:
    """Apply every missing migration in one transaction; safe to run from several processes at once.

    Workers may go on meanwhile. A schema that is newer than this program stays as it is: an older version
    goes on working on it.

    Args:
        database: Where.
        revision: As far as this one.

    Raises:
        Blocked: If others held a table's lock each time that it was tried; nothing was changed.
    """
    # Sessions that wait behind this one for a lock go first.
    patiently = Retry(
        "upgrade_waits_for_a_lock",
        "upgrade_has_its_locks",
        longest_seconds=_PAUSE_SECONDS,
        first_seconds=_PAUSE_SECONDS,
        wait=time.sleep,
        errors=Blocked,
        attempts=_ATTEMPTS,
    )
    patiently(lambda: _upgrade(database, revision))
    return status(database)


def _upgrade(database: Database, revision: str) -> None:
    if status(database).is_newer:
        return
    config = _config()
    with database.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def status(database: Database) -> SchemaStatus:
    """The schema's revision beside the newest known one."""
    script = ScriptDirectory.from_config(_config())
    with database.begin() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    known = [item.revision for item in script.walk_revisions()]  # newest first
    if current is not None and current < known[-1]:
        raise ReviewLoopError(
            f"The schema is at revision {current}, older than this program can upgrade: bring it to revision "
            f"{known[-1]} by the version that made it."
        )
    if current is None or current in known:
        missing = known[: known.index(current)] if current else known
        return SchemaStatus(current, known[0], tuple(reversed(missing)))
    return SchemaStatus(current, known[0], (), is_newer=True)


def require_known(revision: str) -> None:
    """Refuse a schema that this program can neither use nor upgrade.

    Raises:
        WrongUse: If it is of a newer version, or too old.
    """
    if revision not in {item.revision for item in ScriptDirectory.from_config(_config()).walk_revisions()}:
        raise WrongUse(
            f"The backup has the schema at revision {revision!r}, which this program does not know: restore "
            "it with the version of ReviewLoop that took it, or a newer one."
        )


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config
