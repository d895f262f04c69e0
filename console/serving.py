"""Serves the console until it is told to stop."""

import socket
from collections.abc import Callable
from contextlib import nullcontext
from threading import Event, Thread

import uvicorn

from console.app import create_app
from console.parts import ConsoleParts
from console.settings import ConsoleSettings
from reviews.errors import WrongUse
from storage.accounts.users import UserStore

_BACKLOG = 256
_GRACE_SECONDS = 10
_KEEP_ALIVE_SECONDS = 30
_MOST_CONNECTIONS = 1000


class _ConsoleServer(uvicorn.Server):
    """Leaves signals to its caller."""

    capture_signals = nullcontext  # type: ignore[assignment]  # its own ends the process by the signal again


def serve(parts: ConsoleParts, listening: Callable[[], None], stopping: Event) -> None:
    """Serve until told to stop; requests that have begun are answered.

    Args:
        parts: What the pages are made of.
        listening: Called as soon as the address is bound.
        stopping: Ends it when it is set.

    Raises:
        WrongUse: If it would listen to other machines although nobody could log in, or the port is taken.
    """
    require_safe(parts.settings, UserStore(parts.database))
    config = uvicorn.Config(
        create_app(parts),
        log_config=None,
        ws="none",
        lifespan="off",
        access_log=False,  # addresses hold the secrets of one-time links
        proxy_headers=False,  # the application's own layer decides whom it believes
        server_header=False,
        date_header=True,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    with _listen(parts.settings) as listener:
        listening()
        server = _ConsoleServer(config)
        Thread(target=_follow, args=(stopping, server), name="stopping", daemon=True).start()
        server.run([listener])


def _follow(stopping: Event, server: uvicorn.Server) -> None:
    stopping.wait()
    server.should_exit = True


def _listen(settings: ConsoleSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.address else socket.AF_INET
    try:
        return socket.create_server((settings.address, settings.port), family=family, backlog=_BACKLOG)
    except OSError as err:  # a port that is taken, or an address that is not of this machine
        raise WrongUse(
            f"The console cannot listen on {settings.address}:{settings.port} "
            f"({err.strerror or err}): choose another console.port or console.address."
        ) from err


def require_safe(settings: ConsoleSettings, users: UserStore) -> None:
    """Refuse to listen to other machines while nobody has an account and no proxy names users.

    Raises:
        WrongUse: Says how to make an account.
    """
    if settings.is_on_loopback or settings.user_header is not None or users.anybody():
        return
    raise WrongUse(
        f"The console does not listen on {settings.address} while nobody can log in: make an account by "
        "'reviewloop console users add NAME --role owner', or set console.user_header."
    )
