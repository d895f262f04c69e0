"""Free TCP ports on loopback."""

import secrets
import socket
from collections.abc import Collection

from reviewloop.local.errors import StackError

HOST = "127.0.0.1"
# Below the ports that systems hand to outgoing connections, so that a remembered port stays free while
# the stack is down.
FIRST_PORT = 20_000
LAST_PORT = 29_999
_ATTEMPTS = 200


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` of the loopback interface now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        # What servers set themselves: connections of the last run that linger do not hold a port.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((HOST, port))
        except OSError:
            return False
    return not _answers(port)


def free_port(taken: Collection[int] = ()) -> int:
    """A port that is free and not among `taken`.

    Raises:
        StackError: None was found.
    """
    for _ in range(_ATTEMPTS):
        port = FIRST_PORT + secrets.randbelow(LAST_PORT - FIRST_PORT + 1)
        if port not in taken and is_free(port):
            return port
    raise StackError(
        f"No free port found between {FIRST_PORT} and {LAST_PORT} on {HOST}: stop what listens there."
    )


def _answers(port: int) -> bool:
    """Whether somebody listens already: macOS lets one bind beside a listener on all interfaces."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        client.settimeout(0.5)
        return client.connect_ex((HOST, port)) == 0
