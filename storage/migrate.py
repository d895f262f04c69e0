"""Bring the schema up to this program's version, or say how far it is."""

from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from storage.database import Database


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """How the database's schema stands to this program.

    Attributes:
        current: The revision in the database; None where there is no schema.
        newest: The newest revision that this program knows.
        missing: The revisions still to be applied, oldest first.
    """

    current: str | None
    newest: str
    missing: tuple[str, ...]


def upgrade(database: Database) -> SchemaStatus:
    """Apply every missing migration in one transaction; safe to run from several processes at once.

    Raises:
        Unavailable: If the database does not answer.
    """
    config = _config()
    with database.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return status(database)


def status(database: Database) -> SchemaStatus:
    """The schema's revision beside the newest known one.

    Raises:
        Unavailable: If the database does not answer.
    """
    script = ScriptDirectory.from_config(_config())
    with database.begin() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    newest = script.get_current_head() or ""
    known = [revision.revision for revision in script.walk_revisions()]  # newest first
    missing = known[: known.index(current)] if current in known else known if current is None else []
    return SchemaStatus(current, newest, tuple(reversed(missing)))


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config
