"""Connections to Kafka, with every default that loses or hides data overridden.

Opening one raises Unavailable if no broker answers, WrongUse if none is configured or the security settings
contradict each other, and ReviewLoopError if a broker does not let us in; the message names the setting.
"""

import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaConfigurationError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    SaslAuthenticationFailedError,
    TopicAuthorizationFailedError,
    UnsupportedSaslMechanismError,
)
from kafka.net.compat import KafkaNetClient
from kafka.net.sasl.oauth import AbstractTokenProvider
from kafka.net.transport import KafkaSSLTransport

from broker.diagnosis import check_files, diagnose
from broker.settings import KafkaSettings
from reviews.errors import ReviewLoopError, Unavailable, WrongUse

MAX_RECORD_BYTES = 16 * 1024 * 1024
BUSY_FETCHES = {"fetch_min_bytes": 65_536, "fetch_max_wait_ms": 100}
"""Options of a consumer while records come: fetches wait a moment, so that each brings many."""
QUIET_FETCHES = {"fetch_min_bytes": 1, "fetch_max_wait_ms": 500}
"""While none come: a fetch ends with the first record, and otherwise goes on for long."""
_HANDSHAKE_SECONDS = 10.0  # kafka-python's own limit for setting up a connection


def open_consumer(settings: KafkaSettings) -> KafkaConsumer:
    """A consumer of raw bytes that never commits, never rewinds and never skips by itself."""
    options = _security(settings)
    with _diagnosed(settings, options):
        return start_client(
            KafkaConsumer,
            **options,
            group_id=settings.group_id,
            enable_auto_commit=False,
            auto_offset_reset="none",  # an offset lost to retention must be loud
            isolation_level="read_committed",
            allow_auto_create_topics=False,
            partition_assignment_strategy=(CooperativeStickyAssignor,),
            session_timeout_ms=settings.session_timeout_ms,
            heartbeat_interval_ms=settings.heartbeat_interval_ms,
            max_poll_interval_ms=settings.max_poll_interval_ms,
            max_poll_records=2_000,
            **BUSY_FETCHES,
            max_partition_fetch_bytes=4 * 1024 * 1024,
            fetch_max_bytes=16
            * 1024
            * 1024,  # of all partitions of a broker; one fetch is held, one is on its way
            reconnect_backoff_max_ms=5_000,  # by default a broker that is back is found after half a minute
            metadata_max_age_ms=10_000,  # new partitions, and a topic made anew, are noticed within this
        )


def open_producer(
    settings: KafkaSettings, *, idempotent: bool = True, batch_bytes: int = 128 * 1024
) -> KafkaProducer:
    """A producer that batches and compresses.

    Args:
        settings: How to reach the brokers.
        idempotent: Whether a retry can neither double nor reorder records; such a producer is of no more use
            once the broker refused one of them for good.
        batch_bytes: Most of one batch, before compression. While a second batch of a partition waits, each
            record wakes the thread that sends.
    """
    options = _security(settings)
    with _diagnosed(settings, options):
        return start_client(
            KafkaProducer,
            **options,
            acks="all",
            enable_idempotence=idempotent,
            compression_type="lz4",
            linger_ms=20,
            batch_size=batch_bytes,
            max_request_size=MAX_RECORD_BYTES,
            max_block_ms=20_000,
            allow_auto_create_topics=False,
        )


def open_admin(settings: KafkaSettings) -> KafkaAdminClient:
    """A client for making and describing topics."""
    options = _security(settings)
    with _diagnosed(settings, options):
        return start_client(KafkaAdminClient, **options)


def start_client(kind: Any, **options: Any) -> Any:
    """A client of kafka-python; what it opened is closed again if it cannot start.

    Left to itself it would leave a thread and four files behind at every attempt, until none can be opened.

    Args:
        kind: ``KafkaConsumer``, ``KafkaProducer`` or ``KafkaAdminClient``.
        options: For it.

    Raises:
        KafkaError: If it cannot start.
    """
    networks: list[Any] = []

    def network(**configs: Any) -> Any:
        networks.append(KafkaNetClient(**configs))
        return networks[-1]

    try:
        return kind(kafka_client=network, **options)
    except BaseException:
        for opened in networks:
            opened.close()
        raise


@contextmanager
def describe_errors(settings: KafkaSettings) -> Iterator[None]:
    """Turn kafka-python's errors into ours.

    Raises:
        Unavailable: The broker does not answer, or not now.
        ReviewLoopError: It refuses this client.
        WrongUse: The settings contradict each other.
    """
    place = f"The Kafka broker at {settings.bootstrap_servers}"
    try:
        yield
    except (SaslAuthenticationFailedError, UnsupportedSaslMechanismError) as err:
        raise ReviewLoopError(f"{place} refuses the login: check kafka.sasl_mechanism and its user.") from err
    except TopicAuthorizationFailedError as err:
        raise ReviewLoopError(f"{place} does not let this user read or write the topic.") from err
    except GroupAuthorizationFailedError as err:
        raise ReviewLoopError(
            f"{place} does not let this user join the group '{settings.group_id}': check kafka.group_id, or "
            "let the user read with that group."
        ) from err
    except ClusterAuthorizationFailedError as err:
        raise ReviewLoopError(
            f"{place} does not let this user do this in the cluster: creating topics takes the right to "
            "create, publishing that of idempotent writes."
        ) from err
    except KafkaConfigurationError as err:
        raise WrongUse(f"The Kafka settings cannot be used: {err}.") from err
    except (KafkaConnectionError, KafkaTimeoutError) as err:
        raise Unavailable(
            f"{place} does not answer: is it running, and is the address right?", "kafka"
        ) from err
    except KafkaError as err:
        raise Unavailable(f"{place} cannot serve now: {type(err).__name__}.", "kafka") from err


@contextmanager
def _diagnosed(settings: KafkaSettings, options: Mapping[str, Any]) -> Iterator[None]:
    """As `describe_errors`, for a start: kafka-python gives the same time-out whatever is wrong."""
    bound_handshakes()
    with describe_errors(settings):
        try:
            yield
        except (KafkaConnectionError, KafkaTimeoutError):
            diagnose(settings, options)
            raise


def _security(settings: KafkaSettings) -> dict[str, Any]:
    if not settings.bootstrap_servers:
        raise WrongUse(
            "No Kafka broker is configured and no local stack is running: set "
            "REVIEWLOOP_KAFKA__BOOTSTRAP_SERVERS or start one with 'reviewloop local up'."
        )
    _require_complete(settings)
    check_files(settings)
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers.split(","),
        "client_id": "reviewloop",
        "bootstrap_timeout_ms": 10_000,
        "security_protocol": settings.security_protocol,
        "sasl_mechanism": settings.sasl_mechanism,
        "sasl_plain_username": settings.sasl_username,
        "sasl_plain_password": settings.sasl_password and settings.sasl_password.get_secret_value(),
        "sasl_kerberos_service_name": settings.sasl_kerberos_service_name,
        "sasl_kerberos_domain_name": settings.sasl_kerberos_domain_name,
        "ssl_cafile": settings.ssl_cafile,
        "ssl_certfile": settings.ssl_certfile,
        "ssl_keyfile": settings.ssl_keyfile,
        "ssl_password": settings.ssl_password and settings.ssl_password.get_secret_value(),
        "ssl_check_hostname": settings.ssl_check_hostname,
    }
    if settings.sasl_oauth_token_provider:
        options["sasl_oauth_token_provider"] = _token_provider(settings.sasl_oauth_token_provider)
    return {name: value for name, value in options.items() if value is not None}


def _require_complete(settings: KafkaSettings) -> None:
    """What kafka-python would find missing only when the brokers ask for it, and then keep to itself."""
    if not settings.security_protocol.startswith("SASL"):
        return
    needed: dict[str, object] = {"sasl_mechanism": settings.sasl_mechanism}
    if settings.sasl_mechanism == "OAUTHBEARER":
        needed["sasl_oauth_token_provider"] = settings.sasl_oauth_token_provider
    elif settings.sasl_mechanism != "GSSAPI":
        needed |= {"sasl_username": settings.sasl_username, "sasl_password": settings.sasl_password}
    missing = [f"kafka.{name}" for name, value in needed.items() if value is None]
    if missing:
        protocol = settings.security_protocol
        raise WrongUse(
            f"kafka.security_protocol is {protocol}, which needs {' and '.join(missing)}: not set."
        )


def _token_provider(path: str) -> Any:
    module, _, name = path.partition(":")
    try:
        provider = getattr(import_module(module), name)()
    except (ImportError, AttributeError, TypeError, ValueError) as err:
        raise WrongUse(
            f"kafka.sasl_oauth_token_provider '{path}' cannot be made: name a class that takes no arguments, "
            "as MODULE:CLASS."
        ) from err
    if not isinstance(provider, AbstractTokenProvider):
        raise WrongUse(
            f"kafka.sasl_oauth_token_provider '{path}' does not extend "
            "kafka.net.sasl.oauth.AbstractTokenProvider, as kafka-python wants it."
        )
    return provider


def bound_handshakes() -> None:
    """Let kafka-python give up on a broker that takes a connection and never answers to TLS.

    It bounds the connection and all that follows the handshake, but not the handshake. A frozen broker, or a
    load balancer that holds on to the connection, would block a worker for ever, in the constructor of its
    client too, whatever the time-out for a start. This holds for every client of this process.
    """
    KafkaSSLTransport.handshake = _handshake


async def _handshake(transport: Any) -> None:
    net, connection = transport._net, transport._sock  # noqa: SLF001  it has no public hook
    deadline = time.monotonic() + _HANDSHAKE_SECONDS
    try:
        while True:
            try:
                connection.do_handshake()
            except ssl.SSLWantReadError:
                await net.wait_read(connection, deadline)
            except ssl.SSLWantWriteError:
                await net.wait_write(connection, deadline)
            else:
                return
    except BaseException:
        connection.close()  # nobody else does
        raise
