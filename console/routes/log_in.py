"""Logging in and out: by password, by a one-time link, or by the header of a trusted proxy."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from starlette.responses import RedirectResponse, Response

from console.access import (
    SSO_USER,
    Forbidden,
    Parts,
    Viewer,
    address_of,
    everybody,
    forget_session,
    log_of,
    own_path,
    remember_session,
    session_secret,
)
from console.parts import ConsoleParts
from console.passwords import LONGEST, SHORTEST, hash_password, is_right
from console.problems import Missing, TooMany
from console.rendering import done, page
from reviews.account import LONGEST_NAME, Role, User
from reviews.errors import WrongUse
from storage.accounts.sessions import LinkPurpose, SessionStore
from storage.accounts.users import ATTEMPTS_WINDOW, AttemptStore, UserStore

router = APIRouter()

_WRONG = "No account has this name and this password."
_USED = (
    "This link was used already, or its time is over. Ask an owner of the console for a new one "
    "('reviewloop console users reset NAME')."
)
Password = Annotated[str, Form(max_length=LONGEST)]
Next = Annotated[str, Form(alias="next", max_length=2000)]


@router.get("/log-in", dependencies=[Depends(everybody)])
def show_log_in(request: Request, parts: Parts, next: str = "/") -> Response:  # noqa: A002  as it is in addresses
    """The form; or at once the session of the user whom a trusted proxy names."""
    if (named := request.scope.get(SSO_USER)) is not None:
        return _logged_in(request, parts, _user_of_proxy(parts, named), "proxy", own_path(next))
    return _form(request, own_path(next))


@router.post("/log-in", dependencies=[Depends(everybody)])
def log_in(
    request: Request,
    parts: Parts,
    name: Annotated[str, Form(max_length=LONGEST_NAME)],
    password: Password,
    next: Next = "/",  # noqa: A002
) -> Response:
    """Begin a session, if the password is right."""
    attempts, address = AttemptStore(parts.database), address_of(request)
    attempt = attempts.begin(name, address)
    if attempt is None:
        minutes = ATTEMPTS_WINDOW.total_seconds() / 60
        raise TooMany(f"There were too many attempts to log in: try again in {minutes:.0f} minutes.")
    found = UserStore(parts.database).find(name.strip())
    usable = found[1] if found is not None and not found[0].is_disabled else None
    if not is_right(password, usable) or found is None:
        return _form(request, own_path(next), name, _WRONG, status=401)
    attempts.succeed(attempt)
    return _logged_in(request, parts, found[0], "password", own_path(next))


@router.post("/log-out")
def log_out(request: Request, parts: Parts, _who: Viewer) -> Response:
    """End the session."""
    SessionStore(parts.database).end(session_secret(request) or "")
    response = RedirectResponse("/log-in", 303)
    forget_session(request, response)
    return response


@router.get("/link/{secret}", dependencies=[Depends(everybody)])
def follow_link(request: Request, parts: Parts, secret: str) -> Response:
    """Begin a session by a one-time link.

    Raises:
        Missing: If it was used before, or its time is over.
    """
    user = SessionStore(parts.database).use_link(secret, LinkPurpose.LOG_IN)
    if user is None:
        raise Missing(_USED)
    return _logged_in(request, parts, user, "link", "/")


@router.get("/password/{secret}", dependencies=[Depends(everybody)])
def show_password_form(request: Request, parts: Parts, secret: str) -> Response:
    """The form in which somebody who was invited chooses a password.

    Raises:
        Missing: If the link was used before, or its time is over.
    """
    user = SessionStore(parts.database).find_link(secret, LinkPurpose.PASSWORD)
    if user is None:
        raise Missing(_USED)
    return page(request, "password.html", {"name": user.name, "shortest": SHORTEST, "error": ""})


@router.post("/password/{secret}", dependencies=[Depends(everybody)])
def choose_password(request: Request, parts: Parts, secret: str, password: Password) -> Response:
    """Set the password, and log in.

    Raises:
        Missing: If the link was used before, or its time is over.
    """
    sessions = SessionStore(parts.database)
    known = sessions.find_link(secret, LinkPurpose.PASSWORD)
    if known is None:
        raise Missing(_USED)
    try:
        hashed = hash_password(password)
    except WrongUse as err:
        values = {"name": known.name, "shortest": SHORTEST, "error": str(err)}
        return page(request, "password.html", values, status=422)
    user = sessions.use_link(secret, LinkPurpose.PASSWORD)
    if user is None:
        raise Missing(_USED)
    with log_of(parts).decision(user.name, "user.password", user.name, address=address_of(request)):
        UserStore(parts.database).set_password(user.name, hashed)
    return _logged_in(request, parts, user, "password", "/")


@router.get("/account")
def show_account(request: Request, parts: Parts, who: Viewer) -> Response:
    """What the console knows of the user who is logged in, and the form for another password."""
    return _account(request, parts, who.name)


@router.post("/account")
def change_password(
    request: Request,
    parts: Parts,
    who: Viewer,
    password: Password,
    current: Annotated[str, Form(max_length=LONGEST)] = "",
) -> Response:
    """Replace the password, which ends all sessions of the user, and begin a new one."""
    users, attempts = UserStore(parts.database), AttemptStore(parts.database)
    found = users.find(who.name)
    attempt = attempts.begin(who.name, who.address)
    if attempt is None:
        raise TooMany("There were too many wrong passwords: wait a few minutes.")
    if found is None or (found[1] is not None and not is_right(current, found[1])):
        return _account(request, parts, who.name, "The current password is another one.", 422)
    attempts.succeed(attempt)
    try:
        hashed = hash_password(password)
    except WrongUse as err:
        return _account(request, parts, who.name, str(err), 422)
    with log_of(parts).decision(who.name, "user.password", who.name, address=who.address):
        users.set_password(who.name, hashed)
    secret = SessionStore(parts.database).begin(found[0], "password", _lifetime(parts))
    response = done("/account", "The password is changed. Your other sessions have ended.")
    remember_session(request, response, secret)
    return response


def _form(request: Request, target: str, name: str = "", error: str = "", status: int = 200) -> Response:
    return page(request, "log_in.html", {"next": target, "name": name, "error": error}, status=status)


def _account(
    request: Request, parts: ConsoleParts, name: str, error: str = "", status: int = 200
) -> Response:
    user = UserStore(parts.database).get(name)
    values = {"user": user, "shortest": SHORTEST, "error": error}
    return page(request, "account.html", values, status=status)


def _logged_in(request: Request, parts: ConsoleParts, user: User, method: str, target: str) -> Response:
    secret = SessionStore(parts.database).begin(user, method, _lifetime(parts))
    response = RedirectResponse(target, 303)
    remember_session(request, response, secret)
    return response


def _lifetime(parts: ConsoleParts) -> timedelta:
    return timedelta(hours=parts.settings.session_hours)


def _user_of_proxy(parts: ConsoleParts, name: str) -> User:
    """The account of a user who logged in elsewhere, made where the settings say with which role."""
    users, role = UserStore(parts.database), parts.settings.user_header_role
    found = users.find(name)
    if found is None and role is not None:
        return users.add(name, Role(role), "single sign-on")
    if found is None or found[0].is_disabled:
        raise Forbidden(f"'{name}' has no account here: ask an owner of the console for one.")
    return found[0]
