"""Lets kafka-python give up on a broker that takes a connection and never answers to TLS.

It bounds the connection and all that follows the handshake, but not the handshake. Such a broker (a frozen
one, or a load balancer that holds on to the connection) would hang a worker for ever, in the constructor of
its client too, whatever the time-out for a start.
"""

import ssl
import time
from typing import Any

from kafka.net.transport import KafkaSSLTransport

_SECONDS = 10.0  # kafka-python's own limit for setting up a connection


def bound_handshakes() -> None:
    """From now on, every client of this process gives up on such a broker and tries again."""
    KafkaSSLTransport.handshake = _handshake


async def _handshake(transport: Any) -> None:
    net, connection = transport._net, transport._sock  # noqa: SLF001  it has no public hook
    deadline = time.monotonic() + _SECONDS
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
