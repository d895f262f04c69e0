"""Translates the driver's errors: temporary, permanent, or a wrong setting.

libpq reports a failed connection by text alone, without a code. A server that speaks another language than
English is not understood here; its own words are then all there is, and the connection is tried again.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from reviews.errors import Exhausted, ReviewLoopError, Unavailable, Unstorable

# SQLSTATE classes that pass: connection trouble, resources (disk full, too many connections), operator
# intervention (shutdown, time-outs), system errors, and transactions that should simply be tried again.
_PASSING_CLASSES = frozenset({"08", "40", "53", "55", "57", "58"})
# A replica that is not promoted yet; idle in transaction; a transaction that took too long.
_PASSING_STATES = frozenset({"25006", "25P03", "25P04"})
# Statement time-out, out of memory: the server may be busy, or what it was asked too much.
_EXHAUSTED_STATES = frozenset({"57014", "53200"})
# Values that no column takes, rows and values beyond a limit of the server's, for example an index row.
_REFUSING_CLASSES = frozenset({"22", "54"})
_OF_LIMITS = "54"  # whose messages speak of sizes and names, never of the value
_NO_SUCH_TABLE = frozenset({"42P01", "42703", "3F000"})
_OF_CONNECTIONS = frozenset({None, "08P01"})  # libpq gives no code, and PgBouncer the same for everything
_NOT_ALLOWED = "42501"
_LOCK_TIMEOUT = "55P03"

_PASSWORD = "check the user in database.url, and the password there or in database.password"  # noqa: S105
_REASONS = (
    ("password authentication failed", "refuses the login of '{user}': " + _PASSWORD),
    ("no password supplied", "wants a password of '{user}': set it in database.url or database.password"),
    ("does not match host name", "shows a certificate for another name: use that one in database.url"),
    (
        "certificate verify failed",
        "shows a certificate that is not trusted: check sslrootcert in database.url",
    ),
    ("root certificate file", "cannot be checked, as the file of sslrootcert in database.url does not exist"),
    ("certificate file", "cannot be reached: check the certificate files in database.url"),
    ("server does not support SSL", "does not speak TLS, which sslmode in database.url asks for"),
    ("no encryption", "wants TLS: add sslmode=verify-full and sslrootcert=FILE to database.url"),
    (
        "unsupported startup parameter",
        "is behind a pooler that takes no options: leave them out of database.url, or let it ignore them",
    ),
    (
        "statement pooling mode",
        "is behind a pooler that keeps no transaction together: set its pool_mode to transaction or session",
    ),
    ("no pg_hba.conf entry", "does not let '{user}' in from this machine (its pg_hba.conf says who may)"),
)
# libpq's own words for an option that it does not know, or a value that the option cannot have.
_BAD_OPTION = re.compile(r"invalid connection option .+|invalid \w+ value.+|bad value for .+")


class Blocked(Unavailable):
    """Somebody else held a lock for longer than the setting allows."""


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
    except PoolTimeout as err:
        raise Unavailable(f"All connections to the database {place_of(url)} are in use.", "database") from err
    except UnicodeEncodeError as err:  # half a surrogate pair, as an argument in another encoding has
        raise Unstorable(
            f"The database {place_of(url)} refuses what it was given: a text that is no valid Unicode.",
            "untranslatable_character",
            "The database refuses to store this record: a text in it is no valid Unicode.",
        ) from err
    except (DBAPIError, psycopg.Error) as err:  # COPY goes past SQLAlchemy, and so do its errors
        if (ours := _translate(err, url)) is not None:
            raise ours from err
        raise


@contextmanager
def describe_catalog_errors() -> Iterator[None]:
    """Turn errors of a catalogue that another library keeps in a database into ours.

    Raises:
        ReviewLoopError: If the catalogue's database does not answer, or cannot be used.
    """
    try:
        yield
    except SQLAlchemyError as err:
        words = _first_line(err) if isinstance(err, DBAPIError) else str(err).partition("\n")[0].rstrip(".")
        raise ReviewLoopError(f"The catalogue's database cannot be used: {words}.") from err


def _translate(err: DBAPIError | psycopg.Error, url: URL) -> ReviewLoopError | None:
    state, place = sqlstate(err), place_of(url)
    if state in _NO_SUCH_TABLE:
        return ReviewLoopError(
            f"The database {place} lacks this version's tables: run 'reviewloop db upgrade'."
        )
    if state == _NOT_ALLOWED:
        return ReviewLoopError(f"The database role '{url.username}' may not do this: {_first_line(err)}.")
    if state in _OF_CONNECTIONS and (refused := _explain_refusal(str(_of_driver(err)), url, place)):
        return ReviewLoopError(refused)
    if _is_refusal(err):
        return _unstorable(err, place)
    if _is_passing(err):
        kind = Blocked if state == _LOCK_TIMEOUT else Exhausted if state in _EXHAUSTED_STATES else Unavailable
        return kind(f"The database {place} cannot serve now: {_first_line(err)}.", "database")
    return None


def sqlstate(err: DBAPIError | psycopg.Error) -> str | None:
    """PostgreSQL's five-character code of an error, where the server sent one."""
    return getattr(_of_driver(err), "sqlstate", None)


def _is_passing(err: DBAPIError | psycopg.Error) -> bool:
    """Whether waiting may help: the connection broke or the server cannot serve at present."""
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


def _explain_refusal(message: str, url: URL, place: str) -> str | None:
    """A sentence that names the setting; None where the driver's message is no refusal."""
    if "FATAL:  database" in message and "does not exist" in message:
        return f"The database {place} does not exist: create it, or check the name in database.url."
    if bad := _BAD_OPTION.search(message):
        return f"The options behind the '?' in database.url cannot be used: {bad[0].rstrip('.')}."
    for words, sentence in _REASONS:
        if words in message:
            return f"The database {place} {sentence.format(user=url.username)}."
    return None


def place_of(url: URL) -> str:
    """Where a database is, for people: ``'NAME' at HOST:PORT``, with every host."""
    return f"'{url.database}' at {', '.join(addresses(url))}"


def addresses(url: URL) -> list[str]:
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
