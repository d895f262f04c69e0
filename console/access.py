"""Who may do what: every route states the least role it is for, and requests show who they are from.

A browser shows a session's secret in a cookie, a program a token. A request that changes something and is
recognised by its cookie also has to bring the session's CSRF token, which pages of other sites cannot read
(OWASP, Cross-Site Request Forgery Prevention: synchroniser token).
"""

import hmac
from base64 import b64decode
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.responses import Response

from console.parts import ConsoleParts
from reviews.account import TOKEN_ACTOR, Role
from reviews.errors import ReviewLoopError
from storage.accounts.audit_log import AuditLog
from storage.accounts.sessions import SessionStore, TokenStore

API = "/api/"
LABEL_STUDIO = "/api/v1/label-studio/"
"""Under this path a token may be shown as a password, as Label Studio sends it."""
CSRF_FIELD, CSRF_HEADER = "csrf", "x-csrf-token"
SSO_USER = "reviewloop.sso_user"
"""Where the request's scope has the user whom a trusted proxy named."""
_CHANGES_NOTHING = frozenset({"GET", "HEAD", "OPTIONS"})


class NotLoggedIn(ReviewLoopError):
    """The request shows no valid session or token: log in first."""


class Forbidden(ReviewLoopError):
    """The person or program may not do this."""


async def parts_of(request: Request) -> ConsoleParts:
    """The parts of the console that a request reached."""
    parts: ConsoleParts = request.app.state.parts
    return parts


Parts = Annotated[ConsoleParts, Depends(parts_of)]
"""A route's parameter of this type is handed the parts."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who sends a request.

    Attributes:
        name: Labels and decisions carry it: the user's name, or ``token NAME``.
        role: What may be done.
        address: The client's network address.
        csrf: The CSRF token of the session; empty where a token was shown.
    """

    name: str
    role: Role
    address: str
    csrf: str = ""


@dataclass(frozen=True, slots=True)
class Needs:
    """A dependency that lets in those with a role; a test holds that every route has one.

    Attributes:
        role: The least one; None lets everybody in.
    """

    role: Role | None

    async def __call__(self, request: Request) -> Actor | None:
        """Who sends the request; None only where everybody is let in.

        Raises:
            NotLoggedIn: If it shows no valid session or token.
            Forbidden: If the role is not enough, or the CSRF token is missing or wrong.
        """
        if self.role is None:
            return None
        actor = await run_in_threadpool(identify, request)
        request.state.actor = actor
        if not actor.role.covers(self.role):
            raise Forbidden(f"This is for the role {self.role} and above; '{actor.name}' is {actor.role}.")
        if actor.csrf and request.method not in _CHANGES_NOTHING:
            await _require_csrf(request, actor)
        return actor


def needs(role: Role) -> Needs:
    """The dependency for routes that need a role."""
    return Needs(role)


everybody = Needs(None)
"""The dependency for the few routes that need no log-in."""

Viewer = Annotated[Actor, Depends(needs(Role.VIEWER))]
Annotator = Annotated[Actor, Depends(needs(Role.ANNOTATOR))]
Operator = Annotated[Actor, Depends(needs(Role.OPERATOR))]
Owner = Annotated[Actor, Depends(needs(Role.OWNER))]


def identify(request: Request) -> Actor:
    """Who sends a request.

    Raises:
        NotLoggedIn: If it shows no valid session or token.
    """
    database = request.app.state.parts.database
    address = address_of(request)
    secret = _token_in(request)
    if secret is not None:
        token = TokenStore(database).find(secret)
        if token is None:
            raise NotLoggedIn("This token is unknown, expired or revoked, or its user is disabled.")
        return Actor(TOKEN_ACTOR + token.name, token.role, address)
    secret = session_secret(request)
    found = SessionStore(database).find(secret) if secret else None
    if not secret or found is None:
        raise NotLoggedIn("Log in first.")
    user, method = found
    proxied = request.scope.get(SSO_USER)
    if (method == "proxy" or proxied) and (proxied or "").lower() != user.name.lower():
        raise NotLoggedIn("The proxy names somebody else by now: log in again.")
    return Actor(user.name, user.role, address, _csrf_token(secret))


def _token_in(request: Request) -> str | None:
    """The token that a program shows; None where it shows none."""
    path, (scheme, _, credential) = (
        request.url.path,
        request.headers.get("authorization", "").partition(" "),
    )
    if path.startswith(API) and scheme.lower() == "bearer":
        return credential.strip()
    if path.startswith(LABEL_STUDIO) and scheme.lower() == "basic":
        try:
            _, _, password = b64decode(credential.strip(), validate=True).decode().partition(":")
        except ValueError:
            return ""
        return password
    return None


def log_of(parts: ConsoleParts) -> AuditLog:
    """The audit log."""
    return AuditLog(parts.database)


def address_of(request: Request) -> str:
    """The client's network address."""
    return request.client.host if request.client else "unknown"


def session_secret(request: Request) -> str | None:
    """The secret that a browser shows, if it shows one."""
    return request.cookies.get(_cookie_name(request))


def remember_session(request: Request, response: Response, secret: str) -> None:
    """Hand the secret of a session to the browser, where no script can read it."""
    parts: ConsoleParts = request.app.state.parts
    response.set_cookie(
        _cookie_name(request),
        secret,
        max_age=round(parts.settings.session_hours * 3600),
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )


def forget_session(request: Request, response: Response) -> None:
    """Take the secret out of the browser."""
    response.delete_cookie(_cookie_name(request), httponly=True, samesite="lax")


def own_path(target: str) -> str:
    """A path of this console to go on to after the log-in; ``/`` for anything that leads elsewhere."""
    parts = urlsplit(target)
    is_own = target.startswith("/") and not target.startswith(("//", "/\\"))
    is_plain = target.isprintable() and target.isascii() and "\\" not in target
    return target if is_own and is_plain and not parts.netloc and not parts.scheme else "/"


def _cookie_name(request: Request) -> str:
    # Browsers send the cookies of a host to all of its ports: two consoles on one machine need two names.
    parts: ConsoleParts = request.app.state.parts
    return f"reviewloop_session_{parts.settings.port}"


def _csrf_token(secret: str) -> str:
    return hmac.digest(secret.encode(), b"csrf", "sha256").hex()


async def _require_csrf(request: Request, actor: Actor) -> None:
    given: str | UploadFile | None = request.headers.get(CSRF_HEADER)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given is None and kind in {"application/x-www-form-urlencoded", "multipart/form-data"}:
        given = (await request.form()).get(CSRF_FIELD)
    if not isinstance(given, str) or not hmac.compare_digest(given.encode(), actor.csrf.encode()):
        raise Forbidden(
            "This form is from an earlier log-in or from another site: reload the page and try again."
        )
