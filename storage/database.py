"""The connection to PostgreSQL, with time-outs so that a dead peer blocks nobody, and honest errors."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from pydantic import SecretStr
from sqlalchemy import Connection, Engine, Executable, Row, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry

from reviews.errors import Exhausted, ReviewLoopError, Unavailable, Unstorable, WrongUse
from storage.refusals import explain_refusal
from storage.settings import DatabaseSettings

# SQLSTATE classes that pass: connection trouble, resources (disk full, too many connections), operator
# intervention (shutdown, time-outs), system errors, and transactions that should simply be tried again.
_PASSING_CLASSES = frozenset({"08", "40", "53", "55", "57", "58"})
# A replica that is not promoted yet; idle in transaction; a transaction that took too long.
_PASSING_STATES = frozenset({"25006", "25P03", "25P04"})
# Statement time-out, out of memory: the server may be busy, or what it was asked too much.
_EXHAUSTED_STATES = frozenset({"57014", "53200"})
# Values that no column takes, rows and values beyond a limit of the server's, an index row for one.
_REFUSING_CLASSES = frozenset({"22", "54"})
_OF_LIMITS = "54"  # whose messages speak of sizes and names, never of the value
# The server stops, starts or only follows another one: new connections alone may reach what serves next.
_LEAVING_STATES = frozenset({"25006", "57P01", "57P02", "57P03"})
APPLICATION = "reviewloop"
"""How every connection names itself to the server."""

_LEISURE_SECONDS = 3600
_SEVERAL_HOSTS = re.compile(
    r"(?P<start>[^:/?#]+://(?:[^/?#]*@)?)(?P<hosts>[^/?#@]*,[^/?#@]*)(?P<rest>.*)", re.DOTALL
)
_IS_READ_ONLY = text("SHOW transaction_read_only")
_AT_LEISURE = text(f"SET LOCAL idle_in_transaction_session_timeout = '{_LEISURE_SECONDS}s'")

_NO_SUCH_TABLE = frozenset({"42P01", "42703", "3F000"})
_OF_CONNECTIONS = frozenset({None, "08P01"})  # libpq gives no code, and PgBouncer the same for everything
_NOT_ALLOWED = "42501"
_LOCK_TIMEOUT = "55P03"


class Blocked(Unavailable):
    """Somebody else held a lock for longer than the setting allows."""


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
        self.engine = _create_engine(self.url, settings)
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
    def place(self) -> str:
        """Where the database is, for people: ``'NAME' at HOST:PORT``, with every host."""
        return _place(self.url)

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
    except (ArgumentError, ValueError):  # a port that is no number
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


def _create_engine(url: URL, settings: DatabaseSettings) -> Engine:
    client_options: dict[str, Any] = {
        "application_name": APPLICATION,  # by which frozen writers are found, whatever URL and PGAPPNAME say
        "connect_timeout": settings.connect_timeout_seconds,
        "keepalives": 1,
        "keepalives_idle": max(1, settings.network_timeout_seconds // 3),
        "keepalives_interval": max(1, settings.network_timeout_seconds // 6),
        "keepalives_count": 3,
        "tcp_user_timeout": settings.network_timeout_seconds * 1000,
        "prepare_threshold": None,  # a pooler may run a statement in a session where it was not prepared
    }
    if options := url.normalized_query.get("options"):
        client_options["options"] = " ".join(options)
    if len(_addresses(url)) > 1 and "target_session_attrs" not in url.query:
        client_options["target_session_attrs"] = "read-write"
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
        Exhausted: The statement took too long, or too much memory.
        Unstorable: The server refuses the values, and would do so again.
        ReviewLoopError: The schema is missing or does not fit, or access is refused.
    """
    try:
        yield
    except UnicodeEncodeError as err:  # half a surrogate pair, as an argument in another encoding has
        raise Unstorable(
            f"The database {_place(url)} refuses what it was given: a text that is no valid Unicode.",
            "untranslatable_character",
            "The database refuses to store this record: a text in it is no valid Unicode.",
        ) from err
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
        if state in _OF_CONNECTIONS and (refused := explain_refusal(str(_of_driver(err)), url, place)):
            raise ReviewLoopError(refused) from err
        if _is_refusal(err):
            raise _unstorable(err, place) from err
        if is_passing(err):
            kind = (
                Blocked
                if state == _LOCK_TIMEOUT
                else Exhausted
                if state in _EXHAUSTED_STATES
                else Unavailable
            )
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


def _is_refusal(err: DBAPIError | psycopg.Error) -> bool:
    """Whether the values are at fault: the server says so, or the driver cannot even send them."""
    state = sqlstate(err)
    if state is None:
        return isinstance(_of_driver(err), psycopg.DataError)
    return state[:2] in _REFUSING_CLASSES


def _unstorable(err: DBAPIError | psycopg.Error, place: str) -> Unstorable:
    state, name = sqlstate(err), type(_of_driver(err)).__name__
    words = _first_line(err)
    explanation = words if state is not None and state.startswith(_OF_LIMITS) else name
    return Unstorable(
        f"The database {place} refuses what it was given: {words}.",
        re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower(),
        f"The database refuses to store this record: {explanation}.",
    )


def server_version(connection: Connection) -> str:
    """The server's version, such as ``18.4``."""
    return str(connection.execute(text("SHOW server_version")).scalar_one())


def _place(url: URL) -> str:
    return f"'{url.database}' at {', '.join(_addresses(url))}"


def _addresses(url: URL) -> list[str]:
    """``HOST:PORT`` of every host that a URL names."""
    given = url.get_dialect()().create_connect_args(url)[1]
    hosts = str(given.get("host") or "localhost").split(",")
    ports = str(given.get("port") or 5432).split(",")
    ports = ports if len(ports) == len(hosts) else ports[:1] * len(hosts)  # one port for all of them
    return [f"{host}:{port or 5432}" for host, port in zip(hosts, ports, strict=True)]


def _of_driver(err: DBAPIError | psycopg.Error) -> BaseException | None:
    return err.orig if isinstance(err, DBAPIError) else err


def _first_line(err: DBAPIError | psycopg.Error) -> str:
    return (str(_of_driver(err)).strip().splitlines() or ["no details"])[0].rstrip(".")
