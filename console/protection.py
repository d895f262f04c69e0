"""What holds for every request and response: hosts, origins, sizes, and what browsers enforce."""

from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from console.access import SSO_USER
from console.settings import ConsoleSettings

LARGEST_BODY_BYTES = 2 * 2**20
UPLOADS = frozenset({"/adapters/upload", "/api/v1/adapters"})
"""The paths that take larger bodies."""
_STATIC = "/static/"

# Nothing is loaded from elsewhere, nothing inline runs, and no other page may show these in a frame.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Protection:
    """The outermost layer of the application.

    Args:
        app: What is protected.
        settings: Which hosts and proxies are known.
    """

    def __init__(self, app: ASGIApp, settings: ConsoleSettings) -> None:
        proxies = list(settings.trusted_proxies)
        # Inside, the client is the one behind the proxy; here it still is the proxy.
        self._app: ASGIApp = ProxyHeadersMiddleware(app, proxies) if proxies else app  # type: ignore[arg-type,assignment]
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        sending = _with_headers(send, _is_versioned(scope))
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await PlainTextResponse(f"{refusal[1]}\n", refusal[0])(scope, receive, sending)
            return
        await self._app(scope, _bounded(receive, self._limit(scope)), sending)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not self._knows(host):
            return 421, (
                "This console does not answer under this name. Add the name to console.hosts, or use the "
                "address that 'reviewloop console' printed."
            )
        if self._is_from_elsewhere(scope, headers, host):
            return 403, "This request comes from a page of another site and was refused."
        if (length := headers.get("content-length")) and (
            not length.isdecimal() or int(length) > self._limit(scope)
        ):
            return 413, f"The request is too large: at most {self._limit(scope):,} bytes are taken here."
        if (header := self._settings.user_header) and (named := headers.getlist(header)):
            if not self._settings.trusts((scope.get("client") or ("",))[0]):
                return (
                    403,
                    f"The header {header} is believed from the proxies in console.trusted_proxies alone.",
                )
            if len(named) > 1:
                return 400, f"The header {header} is there more than once."
            scope[SSO_USER] = _text(named[0])
        return None

    def _knows(self, host: str) -> bool:
        """Whether a Host header names this console; another name may have been rebound to this address."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if name in {
            "localhost",
            self._settings.address.lower(),
            *(one.lower() for one in self._settings.hosts),
        }:
            return True
        return name.endswith(".localhost") or _is_address(name)

    def _is_from_elsewhere(self, scope: Scope, headers: Headers, host: str) -> bool:
        if scope["method"] in {"GET", "HEAD", "OPTIONS"}:
            return False
        if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
            return True
        origin = headers.get("origin")
        return origin is not None and urlsplit(origin).netloc.lower() != host.lower()

    def _limit(self, scope: Scope) -> int:
        return self._settings.upload_bytes if scope["path"] in UPLOADS else LARGEST_BODY_BYTES


def _text(header: str) -> str:
    """A header's value, whose bytes are UTF-8 by custom and arrive as Latin-1."""
    return header.encode("latin-1").decode("utf-8", "replace")


def _is_address(name: str) -> bool:
    try:
        ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def _is_versioned(scope: Scope) -> bool:
    """Whether a file is asked for by its content's hash, so that a browser can keep it for ever."""
    return str(scope["path"]).startswith(_STATIC) and scope["query_string"].startswith(b"v=")


def _with_headers(send: Send, is_versioned: bool) -> Send:
    caching = "public, max-age=31536000, immutable" if is_versioned else "no-store"
    further: Iterable[tuple[str, str]] = (*_HEADERS.items(), ("Cache-Control", caching))

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in further:
                headers.setdefault(name, value)
        await send(message)

    return sending


def _bounded(receive: Receive, most_bytes: int) -> Receive:
    """Bodies of unknown length end with an error when they become too long."""
    received = 0

    async def receiving() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > most_bytes:
            raise HTTPException(
                413, f"The request is too large: at most {most_bytes:,} bytes are taken here."
            )
        return message

    return receiving
