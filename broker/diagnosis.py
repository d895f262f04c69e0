"""Why a broker did not let us in: a client's steps, one after the other, until one fails.

kafka-python ends every failed start with the same time-out, whatever the reason. An answer is given here only
where a step failed for certain; anything else counts as a broker that is away.
"""

import socket
import ssl
import struct
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from kafka.net.sasl import get_sasl_mechanism

from broker.encryption import HANG_UPS, SECONDS, encrypt, no_tls, speaks_tls
from broker.settings import KafkaSettings
from broker.wire import (
    API_VERSIONS,
    METADATA,
    SASL_AUTHENTICATE,
    SASL_HANDSHAKE,
    ask,
    data,
    error_code,
    text,
    token_of,
)
from reviews.errors import ReviewLoopError

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
            connection = socket.create_connection((host, int(port)), timeout=SECONDS)
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
    if protocol in {"PLAINTEXT", "SASL_PLAINTEXT"} and speaks_tls(host, port):
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
        return encrypt(connection, settings, host, server)
    except (ConnectionError, *HANG_UPS) as err:
        # Kafka hangs up on TLS where it wants none, as does a load balancer whose brokers are away.
        if _speaks_plainly(host, port):
            raise no_tls(settings, server) from err
        raise


def _speaks_plainly(host: str, port: int) -> bool:
    """Whether a broker answers without TLS."""
    try:
        with socket.create_connection((host, port), timeout=SECONDS) as connection:
            return error_code(ask(connection, API_VERSIONS, 0, b"")) == 0
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
    except HANG_UPS:
        raise
    except ssl.SSLError as err:
        # TLS 1.3 tells only after the handshake that the client's certificate is missed.
        remedy = "set kafka.ssl_certfile and kafka.ssl_keyfile to one that it trusts"
        raise _refusal(server, f"wants a client's certificate: {remedy}") from err


def _log_in(
    connection: socket.socket, settings: KafkaSettings, options: Mapping[str, Any], host: str, server: str
) -> None:
    name = str(settings.sasl_mechanism)
    if error_code(ask(connection, SASL_HANDSHAKE, 1, text(name))):
        raise _refusal(server, f"does not offer {name}: set kafka.sasl_mechanism to one that it offers")
    mechanism = get_sasl_mechanism(name)(host=host, **options)
    while not mechanism.is_done():
        answer = ask(connection, SASL_AUTHENTICATE, 0, data(_token(mechanism, name)))
        if error_code(answer):
            who = f" of '{settings.sasl_username}'" if settings.sasl_username else ""
            raise _refusal(server, f"refuses the login{who}: {_LOGIN.get(name, _PASSWORD)}")
        mechanism.receive(token_of(answer))


def _token(mechanism: Any, name: str) -> bytes:
    try:
        return bytes(mechanism.auth_bytes())
    except Exception as err:
        remedy = _LOGIN.get(name, _PASSWORD)
        raise ReviewLoopError(
            f"The login to Kafka cannot be made ({type(err).__name__} in {name}): {remedy}."
        ) from err


def _stay_anonymous(connection: socket.socket, settings: KafkaSettings, server: str) -> None:
    ask(connection, API_VERSIONS, 0, b"")  # which every listener answers
    try:
        ask(connection, METADATA, 1, struct.pack(">i", 0))
    except ConnectionError as err:
        wanted = "SASL_SSL" if settings.security_protocol == "SSL" else "SASL_PLAINTEXT"
        raise _refusal(
            server, f"wants a login: set kafka.security_protocol to {wanted}, and kafka.sasl_mechanism"
        ) from err


def _refusal(server: str, sentence: str) -> ReviewLoopError:
    return ReviewLoopError(f"The Kafka broker at {server} {sentence}.")
