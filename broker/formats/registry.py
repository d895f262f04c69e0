"""A client of the schema registry: schemas by id, by GUID, and by subject and version.

It speaks the part of Confluent's HTTP API that a reader of records needs
(https://docs.confluent.io/platform/current/schema-registry/develop/api.html), which Apicurio Registry,
Karapace and Redpanda speak as well. A schema never changes, so each is asked for once.
"""

import json
import socket
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlsplit
from uuid import UUID

from broker.formats.settings import RegistrySettings
from reviews.errors import InvalidMessage, Unavailable, WrongUse
from reviews.retry import Outage

SERVICE: Final = "registry"
"""What monitoring calls it."""
MAX_ANSWER_BYTES: Final = 2 * 1024 * 1024
MAX_REFERENCES: Final = 200

_KEPT_SCHEMAS = 1_000
_LOGIN_NEEDED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_ACCEPT = "application/vnd.schemaregistry.v1+json, application/json"


class Reference(NamedTuple):
    """A schema that another one uses.

    Attributes:
        name: What it is called there: a full name in Avro, the path of an import in Protobuf.
        subject: Its subject in the registry.
        version: Its version of that subject.
    """

    name: str
    subject: str
    version: int


class Schema(NamedTuple):
    """One schema as the registry hands it out.

    Attributes:
        kind: ``AVRO``, ``PROTOBUF`` or ``JSON``.
        text: Of the schema.
        references: The other schemas that it uses.
    """

    kind: str
    text: str
    references: tuple[Reference, ...] = ()


class SchemaRegistry:
    """Schemas of one registry; may be used by several threads.

    While the registry is unavailable it is asked ever more rarely; in between, what is not known yet is
    refused at once, so that the caller can wait without holding anything up.

    Args:
        settings: Its address, the login and the time-out.
        longest_pause_seconds: The longest pause between two attempts.
        note: Told of each failed attempt, and with None of each one that succeeded.
        clock: Seconds of a monotonic clock.

    Raises:
        WrongUse: If no address is configured, or a certificate cannot be read.
    """

    def __init__(
        self,
        settings: RegistrySettings,
        *,
        longest_pause_seconds: float = 30.0,
        note: Callable[[Exception | None], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if settings.url is None:
            raise WrongUse(
                "No schema registry is configured and no local one is running: set "
                "REVIEWLOOP_REGISTRY__URL, or start one with 'reviewloop local up --registry'."
            )
        self.place = settings.url
        self._http = _Http(settings, settings.url)
        self._note = note
        self._clock = clock
        self._outage = Outage(
            "registry_unavailable",
            "registry_back",
            longest_seconds=longest_pause_seconds,
            clock=clock,
            registry=settings.url,
        )
        self._retry_at = 0.0
        self._last_error = ""
        self._schemas: dict[str, Schema] = {}
        self._lock = threading.Lock()

    def by_id(self, number: int) -> Schema:
        """The schema with this id.

        Raises:
            InvalidMessage: If the registry has none.
            Unavailable: If the registry does not answer now.
        """
        return self._schema(f"/schemas/ids/{number}", f"the id {number}")

    def by_guid(self, guid: UUID) -> Schema:
        """The schema with this GUID.

        Raises:
            InvalidMessage: If the registry has none.
            Unavailable: If the registry does not answer now.
        """
        return self._schema(f"/schemas/guids/{guid}", f"the GUID {guid}")

    def by_version(self, reference: Reference) -> Schema:
        """The schema that a reference names.

        Raises:
            InvalidMessage: If the registry has none.
            Unavailable: If the registry does not answer now.
        """
        path = f"/subjects/{quote(reference.subject, safe='')}/versions/{reference.version}"
        return self._schema(path, f"version {reference.version} of the subject of a reference")

    def referenced(self, schema: Schema) -> dict[str, Schema]:
        """All schemas that one uses, directly or not, by name; each comes behind those that it uses itself.

        Raises:
            InvalidMessage: If there are more than :data:`MAX_REFERENCES`, or they use each other in a circle.
            Unavailable: If the registry does not answer now.
        """
        found: dict[str, Schema] = {}
        waiting: list[tuple[Reference | None, Schema, int]] = [(None, schema, 0)]
        opened: set[str] = set()
        while waiting:
            reference, current, done = waiting.pop()
            if done < len(current.references):
                waiting.append((reference, current, done + 1))
                following = current.references[done]
                if following.name in found:
                    continue
                if following.name in opened or len(opened) >= MAX_REFERENCES:
                    raise InvalidMessage(
                        "bad_schema",
                        f"The schema's references form a circle, or are more than {MAX_REFERENCES}.",
                    )
                opened.add(following.name)
                waiting.append((following, self.by_version(following), 0))
            elif reference is not None:
                found[reference.name] = current
        return found

    def register(self, subject: str, schema: str) -> int:
        """The id of an Avro schema; its subject gets it as the next version where it does not have it yet.

        Raises:
            WrongUse: If the registry refuses it, such as for the versions before.
            Unavailable: If it does not answer now.
        """
        asked = json.dumps({"schema": schema, "schemaType": "AVRO"}).encode()
        status, body = self._http.ask(f"/subjects/{quote(subject, safe='')}/versions", asked)
        answer = _parsed(body)
        if status in {HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY}:
            raise WrongUse(
                f"The schema registry at {self.place} refuses the schema as a version of the subject "
                f"'{subject}' (status {status}): give the topic another name, or let the subject change."
            )
        if status != HTTPStatus.OK or not isinstance(answer, dict) or not isinstance(answer.get("id"), int):
            raise self._unexpected(status)
        return int(answer["id"])

    def check(self) -> None:
        """Ask the registry something harmless, whatever is remembered.

        Raises:
            Unavailable: If it does not answer, or not like a schema registry.
        """
        status, is_there = self._asked_for_types()
        if not is_there:
            raise self._unexpected(status)

    def _asked_for_types(self) -> tuple[int, bool]:
        """The status of the answer to a harmless question, and whether a schema registry gave it."""
        status, body = self._http.ask("/schemas/types")
        return status, status == HTTPStatus.OK and isinstance(_parsed(body), list)

    def _is_there(self) -> bool:
        return self._asked_for_types()[1]

    def _schema(self, path: str, what: str) -> Schema:
        with self._lock:
            schema = self._schemas.get(path)
            if schema is None:
                schema = self._asked(path, what)
                while len(self._schemas) >= _KEPT_SCHEMAS:
                    del self._schemas[next(iter(self._schemas))]
                self._schemas[path] = schema
            return schema

    def _asked(self, path: str, what: str) -> Schema:
        pause = self._retry_at - self._clock()
        if pause > 0:
            raise Unavailable(self._last_error, SERVICE, retry_seconds=pause)
        try:
            status, body = self._http.ask(path)
            answer = self._understood(status, body)
        except Unavailable as err:
            pause = self._outage.failed(err)
            self._last_error, self._retry_at = str(err), self._clock() + pause
            self._note(err)
            raise Unavailable(str(err), SERVICE, retry_seconds=pause) from err
        self._outage.ended()
        self._note(None)
        if answer is None:
            raise InvalidMessage("unknown_schema", f"The schema registry has no schema with {what}.")
        return answer

    def _understood(self, status: int, body: bytes) -> Schema | None:
        """The schema in an answer; None where the registry says that it has none.

        Raises:
            Unavailable: For every other answer: a proxy's error page must not make dead letters.
            InvalidMessage: If the schema is too long.
        """
        if status == HTTPStatus.OK and len(body) > MAX_ANSWER_BYTES:
            limit = f"the limit is {MAX_ANSWER_BYTES:,}"
            raise InvalidMessage("bad_schema", f"The schema takes more bytes than can be read; {limit}.")
        answer = _parsed(body)
        if status == HTTPStatus.NOT_FOUND and (_is_error(answer) or self._is_there()):
            return None  # Apicurio Registry knows no GUIDs, and says so without a word
        if status == HTTPStatus.OK and isinstance(answer, dict):
            with suppress(KeyError, TypeError, ValueError):
                return _schema(answer)
        raise self._unexpected(status)

    def _unexpected(self, status: int) -> Unavailable:
        if status in _LOGIN_NEEDED:
            said = f"refuses the login (status {status}): check registry.username, password and token"
        else:
            said = f"does not answer like a schema registry (status {status}): check registry.url"
        return Unavailable(f"The schema registry at {self.place} {said}.", SERVICE)


class _Http:
    """Requests to one address, bounded in size and time."""

    def __init__(self, settings: RegistrySettings, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port
        self._path = parts.path
        self._seconds = settings.timeout_seconds
        self._context = _tls(settings) if parts.scheme == "https" else None
        self._headers = {
            "Accept": _ACCEPT,
            "Content-Type": "application/json",
            "User-Agent": "reviewloop",
            **_login(settings),
        }
        self._place = url

    def ask(self, path: str, content: bytes | None = None) -> tuple[int, bytes]:
        """Status and body, which is cut one byte behind its limit.

        Args:
            path: Behind the address.
            content: JSON that is posted; None: it is a GET request.

        Raises:
            Unavailable: If no answer came in time.
        """
        connection = self._connection()
        try:
            connection.connect()
            with _cut_after(self._seconds, connection.sock):
                method = "GET" if content is None else "POST"
                connection.request(method, self._path + path, content, self._headers)
                answer = connection.getresponse()
                return answer.status, answer.read(MAX_ANSWER_BYTES + 1)
        except (OSError, HTTPException) as err:
            raise Unavailable(
                f"The schema registry at {self._place} does not answer ({_why(err)}): is it running, and are "
                "the address and registry.ssl_cafile right?",
                SERVICE,
            ) from err
        finally:
            connection.close()

    def _connection(self) -> HTTPConnection:
        if self._context is None:
            return HTTPConnection(self._host, self._port, timeout=self._seconds)
        return HTTPSConnection(self._host, self._port, timeout=self._seconds, context=self._context)


class _cut_after:  # noqa: N801  it reads like a function where it is used
    """Ends a connection after so many seconds: a socket's time-out begins anew with each byte that comes."""

    def __init__(self, seconds: float, connection: socket.socket) -> None:
        self._connection = connection
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _cut(self) -> None:
        with suppress(OSError):  # it ended by itself meanwhile
            # Not the method of a TLS socket, which is not made to be called beside a reading thread.
            socket.socket.shutdown(self._connection, socket.SHUT_RDWR)


def _login(settings: RegistrySettings) -> dict[str, str]:
    if settings.token is not None:
        return {"Authorization": f"Bearer {settings.token.get_secret_value()}"}
    if settings.username is not None and settings.password is not None:
        both = f"{settings.username}:{settings.password.get_secret_value()}"
        return {"Authorization": f"Basic {b64encode(both.encode()).decode('ascii')}"}
    return {}


def _tls(settings: RegistrySettings) -> ssl.SSLContext:
    for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
        path = getattr(settings, name)
        if path is not None and not Path(path).is_file():
            raise WrongUse(f"registry.{name}: there is no file '{path}'.")
    try:
        context = ssl.create_default_context(cafile=settings.ssl_cafile)
        if settings.ssl_certfile is not None:
            password = settings.ssl_password.get_secret_value() if settings.ssl_password else ""
            # Without a password OpenSSL would ask for one at the terminal.
            context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile, lambda: password)
    except (OSError, ssl.SSLError) as err:
        raise WrongUse(
            "The certificates of the schema registry cannot be used "
            f"({getattr(err, 'reason', None) or err.strerror or type(err).__name__}): check "
            "registry.ssl_cafile, ssl_certfile, ssl_keyfile and ssl_password."
        ) from err
    return context


def _why(err: OSError | HTTPException) -> str:
    """What went wrong, without OpenSSL's places in its own code."""
    if isinstance(err, ssl.SSLError):
        return (getattr(err, "verify_message", "") or err.reason or "TLS failed").lower().replace("_", " ")
    return getattr(err, "strerror", None) or type(err).__name__


def _parsed(body: bytes) -> Any:
    """The JSON value of an answer; None where it is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _is_error(answer: Any) -> bool:
    """Whether an answer is an error as Confluent's API has them, and not the page of a proxy."""
    return isinstance(answer, dict) and "error_code" in answer


def _schema(answer: dict[str, Any]) -> Schema:
    """The schema of an answer; Confluent's API leaves the type of Avro out."""
    text, kind = answer["schema"], answer.get("schemaType") or "AVRO"
    references = answer.get("references") or []
    if not isinstance(text, str) or not isinstance(kind, str):
        raise TypeError
    return Schema(
        kind,
        text,
        tuple(Reference(str(one["name"]), str(one["subject"]), int(one["version"])) for one in references),
    )
