"""What accounts and their sessions send."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

from benchmarks.every_statement.call import DAY, Call
from reviews.account import Role
from reviews.errors import ReviewLoopError
from storage.accounts.audit_log import AuditLog
from storage.accounts.sessions import LinkPurpose, SessionStore, TokenStore
from storage.accounts.users import AttemptStore, UserStore
from storage.database import Database


def administering(database: Database) -> Iterator[Call]:
    """Accounts, and what is done to the schema."""
    users, sessions, tokens = UserStore(database), SessionStore(database), TokenStore(database)
    attempts, log, name = AttemptStore(database), AuditLog(database), f"walker{uuid4().hex[:8]}"
    user = users.add(name, Role.OWNER, "walk")
    yield Call("users", lambda: (users.all(), users.get(name), users.find(name), users.anybody()))
    yield Call("user: role", lambda: users.set_role(name, Role.OWNER))
    link = sessions.make_link(user, LinkPurpose.LOG_IN, DAY)
    yield Call(
        "link",
        lambda: (sessions.find_link(link, LinkPurpose.LOG_IN), sessions.use_link(link, LinkPurpose.LOG_IN)),
    )
    yield Call("session", lambda: _session(sessions, user))
    token = tokens.add(name, user, Role.OWNER, DAY)
    yield Call("token", lambda: (tokens.find(token), tokens.all(), tokens.revoke(name)))
    yield Call("attempt", lambda: attempts.succeed(attempts.begin(name, "::1") or 0))
    yield Call("user: password", lambda: users.set_password(name, None))
    yield Call("user: end", lambda: _end(users, name))
    yield Call("audit log", lambda: _decide(log))


def _session(sessions: SessionStore, user: Any) -> None:
    secret = sessions.begin(user, "link", DAY)
    sessions.find(secret)
    sessions.end(secret)


def _end(users: UserStore, name: str) -> None:
    with suppress(ReviewLoopError):  # the only owner stays
        users.disable(name)
    users.enable(name)


def _decide(log: AuditLog) -> None:
    with log.decision("walker", "walk", "nothing"):
        pass
    log.entries(before=10**9)
