"""TLS to a broker, step by step, so that each thing that can be wrong has a name."""

import socket
import ssl
from pathlib import Path

from broker.settings import KafkaSettings
from reviews.errors import ReviewLoopError, WrongUse

SECONDS = 5.0
HANG_UPS = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""Errors of TLS that say no more than that the other side went away."""

_NAME_MISMATCHES = {62, 64}  # OpenSSL's codes for a host name and for an IP address


def encrypt(connection: socket.socket, settings: KafkaSettings, host: str, server: str) -> ssl.SSLSocket:
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
    except HANG_UPS:
        raise
    except ssl.SSLError as err:
        raise no_tls(settings, server) from err


def no_tls(settings: KafkaSettings, server: str) -> ReviewLoopError:
    """The error of a broker that answers to something else."""
    return ReviewLoopError(
        f"The Kafka broker at {server} does not speak TLS, but kafka.security_protocol is "
        f"{settings.security_protocol}: check the port in kafka.bootstrap_servers, or the protocol."
    )


def check_files(settings: KafkaSettings) -> None:
    """Make sure that the files for TLS can be used, before kafka-python finds out and keeps it to itself.

    Raises:
        WrongUse: If one of them cannot; the message names its setting.
    """
    if settings.security_protocol.endswith("SSL"):
        _context(settings)


def speaks_tls(host: str, port: int) -> bool:
    """Whether a server answers to TLS; asked on a connection of its own, over which nothing is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), timeout=SECONDS) as connection,
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
