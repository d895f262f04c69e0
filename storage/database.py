"""The connection to PostgreSQL, with time-outs so that a dead peer blocks nobody, and honest errors."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from pydantic import SecretStr
from sqlalchemy import Connection, Engine, Executable, Row, create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from reviews.errors import ReviewLoopError, Unavailable, WrongUse
from storage.refusals import explain_refusal
from storage.settings import DatabaseSettings

# SQLSTATE classes that pass: connection trouble, resources (disk full, too many connections), operator
# intervention (shutdown, time-outs), system errors, and transactions that should simply be tried again.
_PASSING_CLASSES = frozenset({"08", "40", "53", "55", "57", "58"})
_PASSING_STATES = frozenset({"25006", "25P03"})  # a replica that is not promoted yet; idle in transaction
APPLICATION = "reviewloop"
"""How every connection names itself to the server."""

_LEISURE_SECONDS = 3600
_AT_LEISURE = text(f"SET LOCAL idle_in_transaction_session_timeout = '{_LEISURE_SECONDS}s'")

_NO_SUCH_TABLE = frozenset({"42P01", "42703", "3F000"})
_NOT_ALLOWED = "42501"
_LOCK_TIMEOUT = "55P03"


class Blocked(Unavailable):
    """Somebody else held a lock for longer than the setting allows."""


class Database:
    """A pool of connections to one PostgreSQL database.

    Attributes:
        engine: The SQLAlchemy engine; only ``storage`` uses it.
        lock_patience_seconds: How long a statement waits for a lock before it gives up; 0: for ever.
    """

    def __init__(self, settings: DatabaseSettings) -> None:
        if settings.url is None:
            raise WrongUse(
                "No database is configured and no local stack is running: set REVIEWLOOP_DATABASE__URL "
                "or start one with 'reviewloop local up'."
            )
        self.url = _with_password(_parse_url(settings.url.get_secret_value()), settings.password)
        self.lock_patience_seconds = settings.idle_in_transaction_timeout_seconds
        self.engine = _create_engine(self.url, settings)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """One transaction: committed at the end of the block, rolled back on an error.

        Raises:
            Unavailable: If the database does not answer or cannot serve now; trying again may help.
            ReviewLoopError: If the schema is missing or older than this program.
        """
        with describe_errors(self.url), self.engine.begin() as connection:
            yield connection

    def stream(
        self, query: Executable, values: Mapping[str, Any] | None = None
    ) -> Iterator[Row[*tuple[Any, ...]]]:
        """The rows of a query by a server-side cursor: millions of them take no more memory than a few.

        Whoever reads them, a person with a pager for one, may be idle for up to an hour between two.

        Raises:
            Unavailable: If the database does not answer, or the reader was idle for too long.
        """
        with self.begin() as connection:
            if 0 < self.lock_patience_seconds < _LEISURE_SECONDS:
                connection.execute(_AT_LEISURE)
            yield from connection.execute(query, values, execution_options={"yield_per": 1000})

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def _parse_url(raw: str) -> URL:
    try:
        url = make_url(raw)
    except (ArgumentError, ValueError):  # a port that is no number
        raise WrongUse(
            "The database URL cannot be read; it should look like postgresql://USER:PASSWORD@HOST:5432/NAME."
        ) from None
    if url.get_backend_name() not in {"postgresql", "postgres"}:
        raise WrongUse(f"The database URL names '{url.get_backend_name()}'; only PostgreSQL is supported.")
    return url.set(drivername="postgresql+psycopg")


def _with_password(url: URL, password: SecretStr | None) -> URL:
    if password is None or url.password is not None:
        return url
    return url.set(password=password.get_secret_value())


def _create_engine(url: URL, settings: DatabaseSettings) -> Engine:
    server_options = {
        "statement_timeout": f"{settings.statement_timeout_seconds * 1000:.0f}",
        "idle_in_transaction_session_timeout": f"{settings.idle_in_transaction_timeout_seconds * 1000:.0f}",
        "lock_timeout": f"{settings.idle_in_transaction_timeout_seconds * 1000:.0f}",
        "TimeZone": "UTC",  # psycopg cannot load years 1 and 9999 in other zones
    }
    # Of two options of one name the later counts, so that those that have a setting keep its value.
    options = [
        *url.normalized_query.get("options", ()),
        *(f"-c {name}={value}" for name, value in server_options.items()),
    ]
    client_options: dict[str, Any] = {
        "application_name": APPLICATION,  # by which frozen writers are found, whatever URL and PGAPPNAME say
        "connect_timeout": settings.connect_timeout_seconds,
        "keepalives": 1,
        "keepalives_idle": max(1, settings.network_timeout_seconds // 3),
        "keepalives_interval": max(1, settings.network_timeout_seconds // 6),
        "keepalives_count": 3,
        "tcp_user_timeout": settings.network_timeout_seconds * 1000,
        "options": " ".join(options),
    }
    return create_engine(
        url,
        connect_args=client_options,
        pool_size=5,
        max_overflow=5,
        pool_pre_ping=True,
        hide_parameters=True,  # reviews and file contents have no place in error messages
    )


@contextmanager
def describe_errors(url: URL) -> Iterator[None]:
    """Turn the driver's errors into ours; the password never appears.

    Raises:
        Unavailable: The database does not answer or cannot serve now.
        Blocked: Somebody else held a lock for too long.
        ReviewLoopError: The schema is missing or does not fit, or access is refused.
    """
    try:
        yield
    except (DBAPIError, psycopg.Error) as err:  # COPY goes past SQLAlchemy, and so do its errors
        state, place = sqlstate(err), _place(url)
        if state in _NO_SUCH_TABLE:
            raise ReviewLoopError(
                f"The database {place} lacks this version's tables: run 'reviewloop db upgrade'."
            ) from err
        if state == _NOT_ALLOWED:
            raise ReviewLoopError(
                f"The database role '{url.username}' may not do this: {_first_line(err)}."
            ) from err
        if state is None and (refused := explain_refusal(str(_of_driver(err)), url, place)):
            raise ReviewLoopError(refused) from err
        if is_passing(err):
            kind = Blocked if state == _LOCK_TIMEOUT else Unavailable
            raise kind(f"The database {place} cannot serve now: {_first_line(err)}.", "database") from err
        raise


def sqlstate(err: DBAPIError | psycopg.Error) -> str | None:
    """PostgreSQL's five-character code of an error, where the server sent one."""
    return getattr(_of_driver(err), "sqlstate", None)


def is_passing(err: DBAPIError | psycopg.Error) -> bool:
    """Whether waiting may mend the error: the connection broke or the server cannot serve at present."""
    state = sqlstate(err)
    if state is None:  # no answer from a server at all
        return isinstance(_of_driver(err), psycopg.OperationalError | psycopg.InterfaceError)
    return state[:2] in _PASSING_CLASSES or state in _PASSING_STATES


def server_version(connection: Connection) -> str:
    """The server's version, such as ``18.4``."""
    return str(connection.execute(text("SHOW server_version")).scalar_one())


def _place(url: URL) -> str:
    return f"'{url.database}' at {url.host or 'localhost'}:{url.port or 5432}"


def _of_driver(err: DBAPIError | psycopg.Error) -> BaseException | None:
    return err.orig if isinstance(err, DBAPIError) else err


def _first_line(err: DBAPIError | psycopg.Error) -> str:
    return (str(_of_driver(err)).strip().splitlines() or ["no details"])[0].rstrip(".")
