"""Which statements are sent, from which lines of ``storage``, and how PostgreSQL would answer them.

Only ``storage`` has SQL: the calls in its source that send something are known without running it, so that a
walk over all of them can tell what it missed.
"""

import ast
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from sqlalchemy import Connection, event

from storage.arrow import ArrowReader
from storage.database import Database

_STORAGE = Path(__file__).resolve().parent.parent / "storage"
# What sends for others, and what only the owner of the schema sends, once.
_NOT_WALKED = ("backup.py", "arrow.py", "database.py", "copying.py", "migrate.py", "roles.py", "migrations")
_SENDERS = frozenset(
    {"fetch", "fetch_one", "fetch_value", "fetch_values", "stream", "execute", "exec_driver_sql"}
)
_COPIERS = frozenset({"copy_rows", "copy_columns"})


class Site(NamedTuple):
    """A place in ``storage`` that sends a statement.

    Attributes:
        file: Relative to ``storage``.
        function: The function around it.
        line: Its first line.
        last_line: Its last line.
        is_lazy: Whether it is sent later, by another line of the function.
    """

    file: str
    function: str
    line: int
    last_line: int
    is_lazy: bool

    def __str__(self) -> str:
        return f"storage/{self.file}:{self.line} in {self.function}"


def call_sites() -> list[Site]:
    """The places in ``storage`` that send statements, from its source."""
    return [site for path in sorted(_STORAGE.rglob("*.py")) for site in _sites_of(path)]


def _sites_of(path: Path) -> Iterator[Site]:
    file = str(path.relative_to(_STORAGE))
    if file.startswith(_NOT_WALKED):
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            name = _sender(node)
            if name is not None and isinstance(node, ast.Call):
                last = node.end_lineno or node.lineno
                yield Site(file, function.name, node.lineno, last, name == "stream")


def _sender(node: ast.AST) -> str | None:
    """The name of what sends, where a call does."""
    if not isinstance(node, ast.Call):
        return None
    if isinstance(node.func, ast.Attribute) and node.func.attr in _SENDERS:
        return node.func.attr
    if isinstance(node.func, ast.Name) and node.func.id in _COPIERS:
        return node.func.id
    return None


class Sent(NamedTuple):
    """A statement as it was sent.

    Attributes:
        statement: The SQL; of a COPY of a query, the query.
        values: Its parameters.
        settings: What the transaction had set before, as SQL.
        is_streamed: Whether a cursor reads its rows step by step.
    """

    statement: str
    values: Any
    settings: tuple[str, ...]
    is_streamed: bool


@dataclass
class SentStatements:
    """What was sent, and from where.

    Attributes:
        statements: Each statement by its text.
        places: File, function and line of what sent.
    """

    statements: dict[str, Sent] = field(default_factory=dict)
    places: set[tuple[str, str, int]] = field(default_factory=set)
    _settings: dict[int, list[str]] = field(default_factory=dict)

    def note(self, connection: Connection, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        """Called by SQLAlchemy ahead of each statement."""
        driver = id(connection.connection.driver_connection)
        if statement.startswith("SET LOCAL statement_timeout"):  # each transaction begins with it
            self._settings[driver] = []
        elif "set_config(" in statement and not values:
            self._settings.setdefault(driver, []).append(statement)
        self._keep(statement, values, driver)

    def note_driver(self, driver: Any, query: Any, values: Any) -> None:
        """A statement that may not have passed through SQLAlchemy."""
        if isinstance(query, str) and query not in self.statements:
            self._keep(query, values, id(driver))

    def note_copy(self, driver: Any, statement: str, values: Any) -> None:
        """A COPY, which does not pass through SQLAlchemy."""
        begins, ends = statement.find("("), statement.rfind(") TO STDOUT")
        self._keep(statement[begins + 1 : ends] if ends > 0 else statement, values, id(driver))

    def missed(self, sites: list[Site]) -> list[Site]:
        """The sites that nothing was sent from."""
        functions = {(file, function) for file, function, _ in self.places}
        return [
            site
            for site in sites
            if not any(
                site.file == file and site.line <= line <= site.last_line for file, _, line in self.places
            )
            and not (site.is_lazy and (site.file, site.function) in functions)
        ]

    def _keep(self, statement: str, values: Any, driver: int) -> None:
        frames = list(_storage_frames())
        is_streamed = any(file == "database.py" and name == "stream" for file, name, _ in frames)
        settings = tuple(self._settings.get(driver, ()))
        self.statements[statement] = Sent(statement, values, settings, is_streamed)
        self.places.update(place for place in frames if not place[0].startswith(_NOT_WALKED))


def _storage_frames() -> Iterator[tuple[str, str, int]]:
    """File, function and line of each call in progress that is of ``storage``."""
    frame: Any = sys._getframe()
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(_STORAGE):
            yield str(path.relative_to(_STORAGE)), frame.f_code.co_name, frame.f_lineno
        frame = frame.f_back


@contextmanager
def recording(database: Database) -> Iterator[SentStatements]:
    """Record what is sent to a database."""
    found, copy, execute = SentStatements(), psycopg.Cursor.copy, psycopg.Cursor.execute
    read = ArrowReader.read

    def executed(self: Any, query: Any, params: Any = None, **more: Any) -> Any:
        found.note_driver(self.connection, query, params)
        return execute(self, query, params, **more)

    def noted(self: Any, statement: Any, params: Any = None, **more: Any) -> Any:
        found.note_copy(self.connection, str(statement), params)
        return copy(self, statement, params, **more)

    def noted_read(self: Any, query: str) -> Any:
        found.note_copy(self, query, None)
        return read(self, query)

    event.listen(database.engine, "before_cursor_execute", found.note)
    psycopg.Cursor.copy = noted  # type: ignore[method-assign,assignment]
    psycopg.Cursor.execute = executed  # type: ignore[method-assign,assignment]
    ArrowReader.read = noted_read  # type: ignore[method-assign]
    try:
        yield found
    finally:
        psycopg.Cursor.copy = copy  # type: ignore[method-assign]
        psycopg.Cursor.execute = execute  # type: ignore[method-assign]
        ArrowReader.read = read  # type: ignore[method-assign]
        event.remove(database.engine, "before_cursor_execute", found.note)
