"""The connection to PostgreSQL, with time-outs against dead peers, and errors of our own."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
import structlog
from pydantic import SecretStr
from sqlalchemy import Connection, Engine, Executable, Row, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry

from reviews.errors import Unavailable, WrongUse
from storage.errors import addresses, describe_errors, place_of, sqlstate
from storage.settings import DatabaseSettings

log = structlog.get_logger()

# The server stops, starts or only follows another one: only new connections reach the next server.
_LEAVING_STATES = frozenset({"25006", "57P01", "57P02", "57P03"})
APPLICATION = "reviewloop"
"""How every connection names itself to the server."""
OLDEST_SERVER = 15
"""The first PostgreSQL with ``UNIQUE NULLS NOT DISTINCT``, which activations rest on."""

_LONG_READ_SECONDS = 3600
_SEVERAL_HOSTS = re.compile(
    r"(?P<start>[^:/?#]+://(?:[^/?#]*@)?)(?P<hosts>[^/?#@]*,[^/?#@]*)(?P<rest>.*)", re.DOTALL
)
# What the server says of itself and of this connection.
_SERVER = text("""
SELECT current_setting('server_version'), current_setting('server_version_num')::int / 10000, current_user,
       pg_is_in_recovery(), coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false),
       clock_timestamp()
""")
# The time-outs that a transaction has; the server keeps them in milliseconds.
_SERVER_TIME_OUTS = text(
    "SELECT name, setting::float / 1000 AS seconds FROM pg_settings WHERE name = ANY(:names)"
)
# Sessions of the same role and program, so that no right is needed that a writer does not have.
_END_FROZEN = text(
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
    "WHERE datname = current_database() AND usename = current_user AND application_name = :application "
    "AND state = 'active' AND wait_event = 'ClientRead' AND query_start < now() - :patience * interval '1 s'"
)
_SETTING = text("SELECT setting FROM pg_settings WHERE name = :name")  # in milliseconds
_SET = text("SELECT set_config(:name, :value, false)")
_IS_READ_ONLY = text("SHOW transaction_read_only")
# Rows in the order of an index, each looked up when its turn comes: nothing is sorted or read ahead of the
# first.
_IN_INDEX_ORDER = text(
    "SELECT set_config('enable_sort', 'off', true), set_config('enable_seqscan', 'off', true), "
    "set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true), "
    "set_config('jit', 'off', true)"
)
_LONG_READ_TIMEOUT = text(f"SET LOCAL idle_in_transaction_session_timeout = '{_LONG_READ_SECONDS}s'")

AnyRow = Row[*tuple[Any, ...]]
"""A row of which the types are not known."""


class _Outdated(DisconnectionError):
    """A pooled connection from before the last interruption."""


class Database:
    """A pool of connections to one PostgreSQL database.

    After a failover the pool may hold sessions on a server that takes no writes any more and answers all the
    same. As soon as one of them says so, every connection made before is replaced before its next use.

    Attributes:
        engine: The SQLAlchemy engine; only ``storage`` uses it.
        lock_patience_seconds: How long a statement waits for a lock before it gives up; 0: for ever.
        time_outs: PostgreSQL's settings that each transaction gets, in seconds; 0: none.
    """

    def __init__(self, settings: DatabaseSettings) -> None:
        if settings.url is None:
            raise WrongUse(
                "No database is configured and no local stack is running: set REVIEWLOOP_DATABASE__URL "
                "or start one with 'reviewloop local up'."
            )
        self.url = _with_password(_parse_url(settings.url.get_secret_value()), settings.password)
        self.lock_patience_seconds = settings.idle_in_transaction_timeout_seconds
        self._client_options = _client_options(self.url, settings)
        self.engine = _create_engine(self.url, self._client_options)
        self.time_outs = _time_outs(settings)
        self._limits = _limits(self.time_outs)
        self._interruptions = 0
        event.listen(self.engine, "connect", self._note_connection)
        event.listen(self.engine, "checkout", self._require_current)
        event.listen(self.engine, "invalidate", self._note_lost)

    @property
    def interruptions(self) -> int:
        """How often a connection was lost, or left for a server that takes writes.

        The server behind the next connection may be another one, which lacks what the last one committed.
        """
        return self._interruptions

    @property
    def libpq_options(self) -> dict[str, Any]:
        """What a driver of its own tells libpq to connect as this pool does, the password included."""
        return {**self.url.get_dialect()().create_connect_args(self.url)[1], **self._client_options}

    @property
    def place(self) -> str:
        """Where the database is, for people: ``'NAME' at HOST:PORT``, with every host."""
        return place_of(self.url)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """One transaction: committed at the end of the block, rolled back on an error.

        Raises:
            Unavailable: If the database does not answer or cannot serve now; trying again may help.
            ReviewLoopError: If the schema is missing or older than this program.
        """
        try:
            with describe_errors(self.url), self.engine.begin() as connection:
                # By each transaction itself: a pooler may give the next one another session, and refuses or
                # forgets what a client asks for when it connects.
                connection.exec_driver_sql(self._limits)
                yield connection
        except Unavailable as err:
            if isinstance(err.__cause__, DBAPIError | psycopg.Error):
                self._note_leaving(err.__cause__)
            raise

    def stream(self, query: Executable, values: Mapping[str, Any] | None = None) -> Iterator[AnyRow]:
        """The rows of a query by a server-side cursor: millions of them take no more memory than a few.

        They are in the order of an index, so that each step of the cursor reads what it returns and no more.

        Between two rows the reader, such as a person with a pager, may be idle for up to an hour.

        Raises:
            Unavailable: If the database does not answer, or the reader was idle for too long.
        """
        with self.begin() as connection:
            if 0 < self.lock_patience_seconds < _LONG_READ_SECONDS:
                connection.execute(_LONG_READ_TIMEOUT)
            connection.execute(_IN_INDEX_ORDER)
            with connection.execute(query, values, execution_options={"yield_per": 1000}) as rows:
                yield from rows

    def fetch(self, query: Executable, values: Mapping[str, Any] | None = None) -> Sequence[AnyRow]:
        """The rows of a query, in a transaction of its own."""
        with self.begin() as connection:
            return connection.execute(query, values).all()

    def fetch_one(self, query: Executable, values: Mapping[str, Any] | None = None) -> AnyRow | None:
        """The only row of a query, or None, in a transaction of its own."""
        with self.begin() as connection:
            return connection.execute(query, values).one_or_none()

    def fetch_value(self, query: Executable, values: Mapping[str, Any] | None = None) -> Any:
        """The first value of the first row, None where there is no row, in a transaction of its own."""
        with self.begin() as connection:
            return connection.execute(query, values).scalar()

    def fetch_values(self, query: Executable, values: Mapping[str, Any] | None = None) -> Sequence[Any]:
        """The first column of a query, in a transaction of its own."""
        with self.begin() as connection:
            return connection.execute(query, values).scalars().all()

    def execute(self, statement: Executable, values: Mapping[str, Any] | None = None) -> int:
        """Change rows in a transaction of its own; how many."""
        with self.begin() as connection:
            return connection.execute(statement, values).rowcount

    def require_writable(self) -> None:
        """Make sure that transactions may write, without writing anything.

        Raises:
            Unavailable: If the server does not answer, or only follows another one at present.
        """
        with self.begin() as connection:
            is_read_only = connection.execute(_IS_READ_ONLY).scalar() == "on"
        if is_read_only:
            self._interruptions += 1
            raise Unavailable(f"The database {self.place} takes no writes now: it is read-only.", "database")

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()

    def _note_leaving(self, err: DBAPIError | psycopg.Error) -> None:
        if sqlstate(err) in _LEAVING_STATES:
            self._interruptions += 1

    def _note_connection(self, _: object, entry: ConnectionPoolEntry) -> None:
        entry.info["interruptions"] = self._interruptions
        entry.info["is_new"] = True

    def _require_current(self, _: object, entry: ConnectionPoolEntry, __: object) -> None:
        if entry.info.pop("is_new", False):
            return  # another thread may note an interruption while it is made: its next use replaces it
        if entry.info["interruptions"] != self._interruptions:
            raise _Outdated  # the pool connects anew and goes on

    def _note_lost(self, _: object, __: object, err: BaseException | None) -> None:
        if not isinstance(err, _Outdated):
            self._interruptions += 1


def _parse_url(raw: str) -> URL:
    if _has_stray_at(raw):  # what is behind it would be taken for the host, which errors name
        raise WrongUse(
            "The database URL has an '@' too many: in a user or a password it is written %40, or give the "
            "password apart, as database.password."
        )
    try:
        url = _parse_hosts(raw)
    except (ArgumentError, ValueError):  # a port that is not a number
        raise WrongUse(
            "The database URL cannot be read; it should look like postgresql://USER:PASSWORD@HOST:5432/NAME."
        ) from None
    if url.get_backend_name() not in {"postgresql", "postgres"}:
        raise WrongUse(f"The database URL names '{url.get_backend_name()}'; only PostgreSQL is supported.")
    return url.set(drivername="postgresql+psycopg")


def _has_stray_at(raw: str) -> bool:
    place, _, options = raw.partition("?")
    return place.count("@") > 1 or any("@" in option and "=" not in option for option in options.split("&"))


def _parse_hosts(raw: str) -> URL:
    """A URL that may name several hosts as libpq does, ``HOST:PORT,HOST:PORT``; SQLAlchemy's may not."""
    several = _SEVERAL_HOSTS.fullmatch(raw)
    if several is None:
        return make_url(raw)
    places = [place.rpartition(":") for place in several["hosts"].split(",")]
    # Without a port, or an IPv6 address alone, all of it is the host.
    pairs = [
        (host, port) if port.isdigit() else (f"{host}{colon}{port}", "5432") for host, colon, port in places
    ]
    return make_url(several["start"] + several["rest"]).update_query_dict(
        {
            "host": ",".join(host.strip("[]") for host, _ in pairs),
            "port": ",".join(port for _, port in pairs),
        }
    )


def _with_password(url: URL, password: SecretStr | None) -> URL:
    if password is None or url.password is not None:
        return url
    return url.set(password=password.get_secret_value())


def _time_outs(settings: DatabaseSettings) -> dict[str, float]:
    return {
        "statement_timeout": settings.statement_timeout_seconds,
        "idle_in_transaction_session_timeout": settings.idle_in_transaction_timeout_seconds,
        "lock_timeout": settings.idle_in_transaction_timeout_seconds,
    }


def _limits(time_outs: Mapping[str, float]) -> str:
    """What sets a transaction's time-outs, in one message and without a snapshot of the tables."""
    values = {name: f"{seconds * 1000:.0f}" for name, seconds in time_outs.items()}
    values["TimeZone"] = "UTC"  # psycopg cannot load years 1 and 9999 in other zones
    return "; ".join(f"SET LOCAL {name} = '{value}'" for name, value in values.items())


def _client_options(url: URL, settings: DatabaseSettings) -> dict[str, Any]:
    """What libpq is told beside the place: by the settings, and where the URL says it more than once."""
    client_options: dict[str, Any] = {
        "application_name": APPLICATION,  # by which frozen writers are found, whatever URL and PGAPPNAME say
        "connect_timeout": settings.connect_timeout_seconds,
        "keepalives": 1,
        "keepalives_idle": max(1, settings.network_timeout_seconds // 3),
        "keepalives_interval": max(1, settings.network_timeout_seconds // 6),
        "keepalives_count": 3,
        "tcp_user_timeout": settings.network_timeout_seconds * 1000,
    }
    if options := url.normalized_query.get("options"):
        client_options["options"] = " ".join(options)
    if len(addresses(url)) > 1 and "target_session_attrs" not in url.query:
        client_options["target_session_attrs"] = "read-write"
    return client_options


def _create_engine(url: URL, client_options: Mapping[str, Any]) -> Engine:
    return create_engine(
        url,
        # A pooler may run a statement in a session where it was not prepared.
        connect_args={**client_options, "prepare_threshold": None},
        pool_size=5,
        max_overflow=5,
        pool_pre_ping=True,
        hide_parameters=True,  # reviews and file contents have no place in error messages
    )


@dataclass(frozen=True, slots=True)
class DatabaseReport:
    """What the server says.

    Attributes:
        version: Such as ``18.4``.
        major_version: Such as 18.
        user: The role of this connection.
        is_replica: Whether it only follows another one and takes no writes.
        is_encrypted: Whether this connection is.
        clock: The server's time (UTC).
        time_outs: Those of a transaction as the server has them, in seconds by PostgreSQL's names; 0: none.
    """

    version: str
    major_version: int
    user: str
    is_replica: bool
    is_encrypted: bool
    clock: datetime
    time_outs: dict[str, float]


def look(database: Database) -> DatabaseReport:
    """Ask the server about itself.

    Raises:
        Unavailable: If it does not answer.
        ReviewLoopError: If it does not let us in.
    """
    with database.begin() as connection:
        row = connection.execute(_SERVER).one()
        settings = connection.execute(_SERVER_TIME_OUTS, {"names": list(database.time_outs)})
        time_outs = {setting.name: setting.seconds for setting in settings}
        return DatabaseReport(*row, time_outs)  # type: ignore[call-arg]  # a row of six


@contextmanager
def without_transaction(database: Database, *, waits: bool) -> Iterator[Connection]:
    """A connection of its own on which each statement stands alone and may take as long as it needs.

    Args:
        database: Where to.
        waits: Whether it also waits for others as long as it takes.
    """
    with describe_errors(database.url), database.engine.connect() as connection:
        alone = connection.execution_options(isolation_level="AUTOCOMMIT")
        alone.detach()  # nobody else gets one that is so patient
        lock_seconds = 0 if waits else database.lock_patience_seconds
        for name, seconds in {"statement_timeout": 0.0, "lock_timeout": lock_seconds}.items():
            set_in_session(alone, name, f"{seconds * 1000:.0f}")
        yield alone


def set_in_session(connection: Connection, name: str, value: str) -> None:
    """Set what a statement outside of a transaction goes by.

    Only where it differs: behind a pooler the session, and what was set in it, goes to others next.
    """
    if connection.execute(_SETTING, {"name": name}).scalar() != value:
        connection.execute(_SET, {"name": name, "value": value})


def end_frozen_writers(database: Database) -> int:
    """End the sessions whose statement has waited for its client's data for too long; how many there were.

    A process can be stopped at any moment, by a debugger, a suspended machine or a paused container. Between
    two statements, PostgreSQL itself ends its transaction (``idle_in_transaction_session_timeout``). In the
    middle of a COPY it does not: the server waits for the client's data, where neither that time-out nor
    ``statement_timeout`` nor ``transaction_timeout`` applies, and the kernel of a frozen process goes on
    answering TCP keep-alives. The offset's row would stay locked for ever.

    Raises:
        Unavailable: If the database does not answer.
    """
    ended: int = database.fetch_value(
        _END_FROZEN, {"application": APPLICATION, "patience": database.lock_patience_seconds}
    )
    if ended:
        log.warning("frozen_writers_ended", sessions=ended)
    return ended
