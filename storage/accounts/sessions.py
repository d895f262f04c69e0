"""Sessions in browsers, one-time links and API tokens: each is a secret of which the hash is stored."""

import secrets
from datetime import timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any

from sqlalchemy import Row, delete, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from reviews.account import ApiToken, Role, User, require_account_name
from reviews.errors import WrongUse
from storage.accounts.users import read_user
from storage.database import Database
from storage.schema.accounts import console_link, console_session, console_token, console_user

TOKEN_PREFIX = "rlt_"  # noqa: S105  by which secret scanners find one
_ONE_MINUTE = timedelta(minutes=1)
_SECRET_BYTES = 32


class LinkPurpose(StrEnum):
    """What a one-time link is for."""

    LOG_IN = "log_in"
    PASSWORD = "password"  # noqa: S105


class SessionStore:
    """Sessions and the links that begin one.

    Raises:
        Unavailable: From every method, if the database does not answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, user: User, method: str, lifetime: timedelta) -> str:
        """Begin a session; its secret.

        Args:
            user: Whose.
            method: ``password``, ``link`` or ``proxy``.
            lifetime: It ends after that.
        """
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        values = {"secret_hash": _hash(secret), "user_id": user.id, "method": method}
        with self._database.begin() as connection:
            connection.execute(delete(console_session).where(console_session.c.expires_at < func.now()))
            connection.execute(insert(console_session).values(**values, expires_at=func.now() + lifetime))
        return secret

    def find(self, secret: str) -> tuple[User, str] | None:
        """The user of a session and how it began; None where there is no such session, or it is over."""
        columns = console_session.c
        query = (
            select(console_user, columns.method)
            .join(console_session, columns.user_id == console_user.c.id)
            .where(columns.secret_hash == _hash(secret), columns.expires_at > func.now())
            .where(console_user.c.disabled_at.is_(None))
        )
        row = self._database.fetch_one(query)
        return (read_user(row), row.method) if row else None

    def end(self, secret: str) -> None:
        """Log out."""
        self._database.execute(delete(console_session).where(console_session.c.secret_hash == _hash(secret)))

    def make_link(self, user: User, purpose: LinkPurpose, lifetime: timedelta) -> str:
        """Make a link for one use; its secret. Earlier links of the user for this purpose end."""
        secret, columns = secrets.token_urlsafe(_SECRET_BYTES), console_link.c
        values = {"secret_hash": _hash(secret), "user_id": user.id, "purpose": purpose}
        replaced = (columns.user_id == user.id) & (columns.purpose == purpose)
        with self._database.begin() as connection:
            connection.execute(delete(console_link).where(or_(replaced, columns.expires_at < func.now())))
            connection.execute(insert(console_link).values(**values, expires_at=func.now() + lifetime))
        return secret

    def find_link(self, secret: str, purpose: LinkPurpose) -> User | None:
        """The user of an unused link; None where it was used, is over, or is for something else."""
        row = self._database.fetch_one(_linked(secret, purpose))
        return read_user(row) if row else None

    def use_link(self, secret: str, purpose: LinkPurpose) -> User | None:
        """Use a link up; its user, or None as in :meth:`find_link`. Of several at once, one succeeds."""
        with self._database.begin() as connection:
            row = connection.execute(_linked(secret, purpose)).one_or_none()
            used = connection.execute(delete(console_link).where(console_link.c.secret_hash == _hash(secret)))
            return read_user(row) if row is not None and used.rowcount == 1 else None


class TokenStore:
    """Tokens of programs.

    Raises:
        Unavailable: From every method, if the database does not answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, name: str, user: User, role: Role, lifetime: timedelta) -> str:
        """Make a token; the token itself, which nobody can read again.

        Raises:
            WrongUse: If the name cannot be one or is taken, or the user may less than the token would.
        """
        if not user.role.covers(role):
            raise WrongUse(f"'{user.name}' is {user.role}: a token of theirs cannot be {role}.")
        secret = TOKEN_PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
        values = {
            "name": require_account_name(name),
            "secret_hash": _hash(secret),
            "user_id": user.id,
            "role": role,
        }
        statement = upsert(console_token).values(**values, expires_at=func.now() + lifetime)
        adding = statement.on_conflict_do_nothing(index_elements=["name"]).returning(console_token.c.id)
        if self._database.fetch_value(adding) is None:
            raise WrongUse(f"There is a token '{name}' already: names are not used twice.")
        return secret

    def find(self, secret: str) -> ApiToken | None:
        """The token, if it may be used now, with what it may do now; None where it may not be used."""
        columns = console_token.c
        query = _tokens().where(
            columns.secret_hash == _hash(secret),
            columns.expires_at > func.now(),
            columns.revoked_at.is_(None),
            console_user.c.disabled_at.is_(None),
        )
        row = self._database.fetch_one(query)
        if row is None:
            return None
        is_noted = columns.last_used_at > func.now() - _ONE_MINUTE
        if row.last_used_at is None or row.is_stale:
            noting = update(console_token).where(columns.id == row.id, is_noted.is_not(True))
            self._database.execute(noting.values(last_used_at=func.now()))
        return _read_token(row)

    def all(self, limit: int = 1000) -> list[ApiToken]:
        """Tokens, the newest first."""
        return [
            _read_token(row)
            for row in self._database.fetch(_tokens().order_by(console_token.c.id.desc()).limit(limit))
        ]

    def revoke(self, name: str) -> None:
        """Refuse a token from now on.

        Raises:
            WrongUse: If there is no such token.
        """
        columns = console_token.c
        values = {"revoked_at": func.coalesce(columns.revoked_at, func.now())}
        if not self._database.execute(update(console_token).where(columns.name == name).values(**values)):
            raise WrongUse(f"There is no token '{name}': 'reviewloop console tokens list' shows all.")


def _hash(secret: str) -> bytes:
    # 256 random bits: nothing that takes long is needed to keep them from being guessed.
    return sha256(secret.encode()).digest()


def _linked(secret: str, purpose: LinkPurpose) -> Any:
    columns = console_link.c
    return (
        select(console_user)
        .join(console_link, columns.user_id == console_user.c.id)
        .where(columns.secret_hash == _hash(secret), columns.purpose == purpose)
        .where(columns.expires_at > func.now(), console_user.c.disabled_at.is_(None))
    )


def _tokens() -> Any:
    columns = console_token.c
    return select(
        columns.id,
        columns.name,
        columns.role,
        columns.created_at,
        columns.expires_at,
        columns.revoked_at,
        columns.last_used_at,
        (columns.last_used_at < func.now() - _ONE_MINUTE).label("is_stale"),
        console_user.c.name.label("user"),
        console_user.c.role.label("user_role"),
    ).join(console_user, console_user.c.id == columns.user_id)


def _read_token(row: Row[Any]) -> ApiToken:
    role, of_user = Role(row.role), Role(row.user_role)
    return ApiToken(
        row.id,
        row.name,
        row.user,
        role if of_user.covers(role) else of_user,
        row.created_at,
        row.expires_at,
        row.revoked_at,
        row.last_used_at,
    )
