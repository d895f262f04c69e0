"""Diagnosis of a failed connection: repeats a client's steps one by one until one fails.

kafka-python ends every failed start with the same time-out, whatever the reason. An answer is given here only
where a step failed for certain; anything else counts as an unavailable broker.
"""

import socket
import ssl
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from kafka.net.sasl import get_sasl_mechanism

from broker.settings import KafkaSettings
from reviews.errors import ReviewLoopError, WrongUse

_SECONDS = 5.0
_HANG_UPS = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""Errors of TLS that say no more than that the other side went away."""
_NAME_MISMATCHES = {62, 64}  # OpenSSL's codes for a host name and for an IP address
_METADATA, _SASL_HANDSHAKE, _API_VERSIONS, _SASL_AUTHENTICATE = 3, 17, 18, 36
_PASSWORD = "check kafka.sasl_username and kafka.sasl_password"  # noqa: S105  it names settings
_LOGIN = {
    "GSSAPI": "check the Kerberos ticket and kafka.sasl_kerberos_service_name",
    "OAUTHBEARER": "check kafka.sasl_oauth_token_provider and the token that it gives",
}


def diagnose(settings: KafkaSettings, options: Mapping[str, Any]) -> None:
    """Say which setting keeps the first broker that can be reached from serving us.

    Args:
        settings: How to reach the brokers.
        options: The same for kafka-python, secrets included.

    Raises:
        ReviewLoopError: If a setting is surely wrong; the message names it and holds no secret.
    """
    for server in options["bootstrap_servers"]:
        host, _, port = server.strip().rpartition(":")
        host = host.strip("[]")
        try:
            connection = socket.create_connection((host, int(port)), timeout=_SECONDS)
        except (OSError, ValueError):
            continue
        with connection, suppress(OSError, struct.error):  # it went away in the middle: nothing is sure
            _go_in(connection, settings, options, host, server)
        return


def _go_in(
    connection: socket.socket, settings: KafkaSettings, options: Mapping[str, Any], host: str, server: str
) -> None:
    protocol = settings.security_protocol
    port = connection.getpeername()[1]
    if protocol in {"PLAINTEXT", "SASL_PLAINTEXT"} and _speaks_tls(host, port):
        wanted = "SASL_SSL" if protocol == "SASL_PLAINTEXT" else "SSL or SASL_SSL"
        raise _refusal(server, f"speaks TLS, but kafka.security_protocol is {protocol}: set it to {wanted}")
    if protocol in {"PLAINTEXT", "SASL_PLAINTEXT"}:
        _introduce(connection, settings, options, host, server)
        return
    with _encrypted(connection, settings, host, port, server) as encrypted:
        _introduce(encrypted, settings, options, host, server)


def _encrypted(
    connection: socket.socket, settings: KafkaSettings, host: str, port: int, server: str
) -> ssl.SSLSocket:
    try:
        return _encrypt(connection, settings, host, server)
    except (ConnectionError, *_HANG_UPS) as err:
        # Kafka hangs up on TLS where it wants none, as does a load balancer whose brokers are unavailable.
        if _speaks_plainly(host, port):
            raise _no_tls(settings, server) from err
        raise


def _speaks_plainly(host: str, port: int) -> bool:
    """Whether a broker answers without TLS."""
    try:
        with socket.create_connection((host, port), timeout=_SECONDS) as connection:
            return _error_code(_ask(connection, _API_VERSIONS, 0, b"")) == 0
    except (OSError, struct.error):
        return False


def _introduce(
    connection: socket.socket, settings: KafkaSettings, options: Mapping[str, Any], host: str, server: str
) -> None:
    try:
        if settings.security_protocol in {"SASL_PLAINTEXT", "SASL_SSL"}:
            _log_in(connection, settings, options, host, server)
        else:
            _stay_anonymous(connection, settings, server)
    except _HANG_UPS:
        raise
    except ssl.SSLError as err:
        # TLS 1.3 tells only after the handshake that the client's certificate is missed.
        remedy = "set kafka.ssl_certfile and kafka.ssl_keyfile to one that it trusts"
        raise _refusal(server, f"wants a client's certificate: {remedy}") from err


def _log_in(
    connection: socket.socket, settings: KafkaSettings, options: Mapping[str, Any], host: str, server: str
) -> None:
    name = str(settings.sasl_mechanism)
    if _error_code(_ask(connection, _SASL_HANDSHAKE, 1, _prefixed(">h", name.encode()))):
        raise _refusal(server, f"does not offer {name}: set kafka.sasl_mechanism to one that it offers")
    mechanism = get_sasl_mechanism(name)(host=host, **options)
    while not mechanism.is_done():
        answer = _ask(connection, _SASL_AUTHENTICATE, 0, _prefixed(">i", _token(mechanism, name)))
        if _error_code(answer):
            who = f" of '{settings.sasl_username}'" if settings.sasl_username else ""
            raise _refusal(server, f"refuses the login{who}: {_LOGIN.get(name, _PASSWORD)}")
        mechanism.receive(_token_of(answer))


def _token(mechanism: Any, name: str) -> bytes:
    try:
        return bytes(mechanism.auth_bytes())
    except Exception as err:
        remedy = _LOGIN.get(name, _PASSWORD)
        raise ReviewLoopError(
            f"The login to Kafka cannot be made ({type(err).__name__} in {name}): {remedy}."
        ) from err


def _stay_anonymous(connection: socket.socket, settings: KafkaSettings, server: str) -> None:
    _ask(connection, _API_VERSIONS, 0, b"")  # which every listener answers
    try:
        _ask(connection, _METADATA, 1, struct.pack(">i", 0))
    except ConnectionError as err:
        wanted = "SASL_SSL" if settings.security_protocol == "SSL" else "SASL_PLAINTEXT"
        raise _refusal(
            server, f"wants a login: set kafka.security_protocol to {wanted}, and kafka.sasl_mechanism"
        ) from err


def _refusal(server: str, sentence: str) -> ReviewLoopError:
    return ReviewLoopError(f"The Kafka broker at {server} {sentence}.")


def check_files(settings: KafkaSettings) -> None:
    """Make sure that the files for TLS can be used, before kafka-python finds out and keeps it to itself.

    Raises:
        WrongUse: If one of them cannot; the message names its setting.
    """
    if settings.security_protocol.endswith("SSL"):
        _context(settings)


def _encrypt(connection: socket.socket, settings: KafkaSettings, host: str, server: str) -> ssl.SSLSocket:
    """The connection with TLS on it, as the settings want it.

    Raises:
        WrongUse: If a file that they name cannot be used.
        ReviewLoopError: If the broker does not speak TLS or cannot be trusted.
        OSError: If it hung up or does not answer, from which nothing follows.
    """
    try:
        return _context(settings).wrap_socket(connection, server_hostname=host)
    except ssl.SSLCertVerificationError as err:
        raise ReviewLoopError(f"The Kafka broker at {server} {_mistrust(settings, host, err)}.") from err
    except _HANG_UPS:
        raise
    except ssl.SSLError as err:
        raise _no_tls(settings, server) from err


def _no_tls(settings: KafkaSettings, server: str) -> ReviewLoopError:
    """The error of a broker that answers to something else."""
    return ReviewLoopError(
        f"The Kafka broker at {server} does not speak TLS, but kafka.security_protocol is "
        f"{settings.security_protocol}: check the port in kafka.bootstrap_servers, or the protocol."
    )


def _speaks_tls(host: str, port: int) -> bool:
    """Whether a server answers to TLS; asked on a connection of its own, over which nothing is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), timeout=_SECONDS) as connection,
            context.wrap_socket(connection, server_hostname=host),
        ):
            return True
    except OSError:
        return False


def _mistrust(settings: KafkaSettings, host: str, err: ssl.SSLCertVerificationError) -> str:
    if err.verify_code in _NAME_MISMATCHES:
        return f"shows a certificate that does not name '{host}': use its name in kafka.bootstrap_servers"
    file = settings.ssl_cafile or "not set, so the system's authorities count"
    return f"shows a certificate that is not trusted ({err.verify_message}): check kafka.ssl_cafile ({file})"


def _context(settings: KafkaSettings) -> ssl.SSLContext:
    authority = _readable("ssl_cafile", settings.ssl_cafile)
    try:
        context = ssl.create_default_context(cafile=authority)
    except ssl.SSLError as err:
        raise WrongUse(
            f"The file of kafka.ssl_cafile holds no certificate in PEM form: {authority}."
        ) from err
    context.check_hostname = settings.ssl_check_hostname
    certificate = _readable("ssl_certfile", settings.ssl_certfile)
    if certificate:
        password = settings.ssl_password.get_secret_value() if settings.ssl_password else ""
        key = _readable("ssl_keyfile", settings.ssl_keyfile)
        try:
            context.load_cert_chain(certificate, key, password)
        except ssl.SSLError as err:
            raise WrongUse(
                "The client's certificate cannot be used: check kafka.ssl_certfile, kafka.ssl_keyfile and "
                f"kafka.ssl_password ({err.reason or 'the key does not open'})."
            ) from err
    return context


def _readable(name: str, path: str | None) -> str | None:
    if path is not None:
        try:
            Path(path).read_bytes()
        except OSError as err:
            raise WrongUse(f"The file of kafka.{name} cannot be read: {path} ({err.strerror}).") from err
    return path


def _ask(connection: socket.socket, api_key: int, api_version: int, body: bytes) -> bytes:
    """The answer to one request, without its header.

    Raises:
        OSError: The broker hung up, or does not answer in time.
    """
    request = struct.pack(">hhih", api_key, api_version, 1, -1) + body  # 1: correlation, -1: no client id
    connection.sendall(struct.pack(">i", len(request)) + request)
    (size,) = struct.unpack(">i", _read(connection, 4))
    return _read(connection, size)[4:]


def _error_code(answer: bytes) -> int:
    """The error at the beginning of an answer; 0 for none."""
    return int(struct.unpack_from(">h", answer)[0])


def _prefixed(length_format: str, value: bytes) -> bytes:
    return struct.pack(length_format, len(value)) + value


def _token_of(answer: bytes) -> bytes:
    """The token in the answer to an authentication: behind the error's code and message."""
    (message_size,) = struct.unpack_from(">h", answer, 2)
    return answer[2 + 2 + max(0, message_size) + 4 :]


def _read(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        more = connection.recv(size - len(found))
        if not more:
            raise ConnectionResetError("The broker hung up.")
        found += more
    return found
