"""For owners: people, tokens, and the audit log."""

from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import Response

from console.access import Actor, Owner, Parts, log_of
from console.rendering import done, page
from reviews.account import LONGEST_NAME, LONGEST_REASON, Role
from storage.accounts.audit_log import AuditLog
from storage.accounts.sessions import LinkPurpose, SessionStore, TokenStore
from storage.accounts.users import UserStore

router = APIRouter()

_PAGE = 100
Name = Annotated[str, Form(min_length=1, max_length=LONGEST_NAME)]
Reason = Annotated[str, Form(max_length=LONGEST_REASON)]
Days = Annotated[int, Form(ge=1, le=366)]


@router.get("/people")
def show_people(request: Request, parts: Parts, _who: Owner) -> Response:
    """All users, with what may be changed."""
    values = {"users": UserStore(parts.database).all(), "roles": list(Role)}
    return page(request, "people.html", values)


@router.post("/people")
def add_user(
    request: Request, parts: Parts, who: Owner, name: Name, role: Annotated[Role, Form()]
) -> Response:
    """Make an account, and show the link by which its owner chooses a password."""
    with _decision(parts, who, "user.add", name.strip(), str(role)):
        UserStore(parts.database).add(name.strip(), role, who.name)
    return _invited(request, parts, name.strip())


@router.post("/people/role")
def change_role(
    parts: Parts, who: Owner, name: Name, role: Annotated[Role, Form()], reason: Reason = ""
) -> Response:
    """Change what a user may do."""
    with _decision(parts, who, f"user.role.{role}", name, reason):
        UserStore(parts.database).set_role(name, role)
    return done("/people", f"{name} is {role} now.")


@router.post("/people/disable")
def disable_user(parts: Parts, who: Owner, name: Name, reason: Reason = "") -> Response:
    """End an account."""
    with _decision(parts, who, "user.disable", name, reason):
        UserStore(parts.database).disable(name)
    return done("/people", f"{name} is disabled: sessions, links and tokens of this account have ended.")


@router.post("/people/enable")
def enable_user(parts: Parts, who: Owner, name: Name, reason: Reason = "") -> Response:
    """Let a disabled user in again."""
    with _decision(parts, who, "user.enable", name, reason):
        UserStore(parts.database).enable(name)
    return done("/people", f"{name} may log in again.")


@router.post("/people/reset")
def reset_user(request: Request, parts: Parts, who: Owner, name: Name, reason: Reason = "") -> Response:
    """Take the password away, and show a link for a new one."""
    with _decision(parts, who, "user.reset", name, reason):
        UserStore(parts.database).set_password(name, None)
    return _invited(request, parts, name)


@router.get("/tokens")
def show_tokens(request: Request, parts: Parts, _who: Owner) -> Response:
    """All tokens; never the secrets."""
    values = {"tokens": TokenStore(parts.database).all(), "roles": list(Role), "made": None}
    return page(request, "tokens.html", values)


@router.post("/tokens")
def add_token(
    request: Request, parts: Parts, who: Owner, *, name: Name, role: Annotated[Role, Form()], days: Days = 90
) -> Response:
    """Make a token, and show it this once."""
    user = UserStore(parts.database).get(who.name)
    with _decision(parts, who, "token.add", name.strip(), f"{role}, {days} days"):
        made = TokenStore(parts.database).add(name.strip(), user, role, timedelta(days=days))
    values = {"tokens": TokenStore(parts.database).all(), "roles": list(Role), "made": made}
    return page(request, "tokens.html", values)


@router.post("/tokens/revoke")
def revoke_token(parts: Parts, who: Owner, name: Name, reason: Reason = "") -> Response:
    """Refuse a token from now on."""
    with _decision(parts, who, "token.revoke", name, reason):
        TokenStore(parts.database).revoke(name)
    return done("/tokens", f"The token {name} is revoked.")


@router.get("/audit-log")
def show_audit_log(
    request: Request, parts: Parts, _who: Owner, before: Annotated[int | None, Query(ge=1)] = None
) -> Response:
    """What was decided, the newest first."""
    entries = AuditLog(parts.database).entries(before, _PAGE + 1)
    older = entries[_PAGE - 1].id if len(entries) > _PAGE else None
    return page(request, "audit_log.html", {"entries": entries[:_PAGE], "older": older})


def _invited(request: Request, parts: Parts, name: Name) -> Response:
    user = UserStore(parts.database).get(name)
    lifetime = timedelta(hours=parts.settings.link_hours)
    secret = SessionStore(parts.database).make_link(user, LinkPurpose.PASSWORD, lifetime)
    link = str(request.url_for("show_password_form", secret=secret))
    return page(request, "invited.html", {"name": name, "link": link, "hours": parts.settings.link_hours})


def _decision(
    parts: Parts, who: Actor, action: str, subject: str, reason: str
) -> AbstractContextManager[None]:
    return log_of(parts).decision(who.name, action, subject, reason=reason, address=who.address)
