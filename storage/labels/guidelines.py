"""Guidelines for annotators: Markdown of a task, every version kept."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import text

from reviews.errors import ReviewLoopError
from storage.database import Database

_CURRENT = text("""
SELECT version, text, written_by, written_at FROM guideline
 WHERE task = :task ORDER BY version DESC LIMIT 1
""")
_HISTORY = text("""
SELECT version, text, written_by, written_at FROM guideline
 WHERE task = :task ORDER BY version DESC LIMIT :most
""")
_WRITE = text("""
INSERT INTO guideline (task, version, text, written_by) VALUES (:task, :version, :text, :written_by)
ON CONFLICT DO NOTHING
""")


class GuidelineChanged(ReviewLoopError):
    """Somebody else changed the guidelines meanwhile: nothing was stored; look at their version first."""


class Guideline(NamedTuple):
    """One version of a task's guidelines.

    Attributes:
        version: From 1 on.
        text: Markdown.
        written_by: Who wrote this version.
        written_at: When (UTC).
    """

    version: int
    text: str
    written_by: str
    written_at: datetime


class GuidelineStore:
    """Reads and writes guidelines.

    Raises:
        Unavailable: From every method, if the database does not answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def current(self, task: str) -> Guideline | None:
        """The newest version; None where nobody wrote any."""
        row = self._database.fetch_one(_CURRENT, {"task": task})
        return None if row is None else Guideline(*row)

    def history(self, task: str, most: int = 20) -> list[Guideline]:
        """The newest versions, the newest first."""
        return [Guideline(*row) for row in self._database.fetch(_HISTORY, {"task": task, "most": most})]

    def write(self, task: str, markdown: str, written_by: str, *, replaces: int) -> None:
        """Store a new version, by compare-and-set.

        Args:
            task: Of which task.
            markdown: The whole text.
            written_by: Who.
            replaces: The version that the author saw; 0: there was none.

        Raises:
            GuidelineChanged: If there is a newer one by now; nothing was stored.
        """
        given = {"task": task, "version": replaces + 1, "text": markdown, "written_by": written_by}
        current = self.current(task)
        is_current = (0 if current is None else current.version) == replaces
        if not is_current or self._database.execute(_WRITE, given) == 0:
            raise GuidelineChanged(
                f"Somebody else changed the guidelines of '{task}' meanwhile: nothing was stored. Look at "
                "the newest version, and bring your change into it."
            )
