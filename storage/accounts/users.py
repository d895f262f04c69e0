"""Users of the console, and the attempts to log in as one of them."""

from datetime import timedelta
from hashlib import sha256
from typing import Any

from sqlalchemy import Row, Select, delete, func, insert, literal, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from reviews.account import Role, User, require_account_name
from reviews.errors import WrongUse
from storage.database import Database
from storage.schema.accounts import console_link, console_session, console_user, log_in_attempt

ATTEMPTS_WINDOW = timedelta(minutes=15)
_MOST_FROM_ADDRESS = 30
_MOST_ON_ACCOUNT = 50
_MOST_ON_ACCOUNT_FROM_ADDRESS = 5

_columns = console_user.c
_CHANGES = text("SELECT pg_advisory_xact_lock(:lock)")
_CHANGES_LOCK = 0x55736572436861  # one change at a time: two owners may not remove each other


class UserStore:
    """Users by name, whatever its case.

    Raises:
        Unavailable: From every method, if the database does not answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, name: str, role: Role, created_by: str, password_hash: str | None = None) -> User:
        """Make an account.

        Raises:
            WrongUse: If the name cannot be one, or is taken.
        """
        values = {"name": require_account_name(name), "role": role, "created_by": created_by}
        statement = upsert(console_user).values(**values, password_hash=password_hash)
        adding = statement.on_conflict_do_nothing().returning(_columns.id)
        if self._database.fetch_value(adding) is None:
            raise WrongUse(f"There is a user '{name}' already.")
        return self.get(name)

    def get(self, name: str) -> User:
        """The user of this name.

        Raises:
            WrongUse: If there is none.
        """
        found = self._database.fetch_one(_users().where(_is(name)))
        if found is None:
            raise WrongUse(f"There is no user '{name}': 'reviewloop console users list' shows all.")
        return read_user(found)

    def find(self, name: str) -> tuple[User, str | None] | None:
        """The user of this name and the hash of the password; None where there is no such user."""
        found = self._database.fetch_one(_users().where(_is(name)))
        return found and (read_user(found), found.password_hash)

    def all(self, limit: int = 1000) -> list[User]:
        """Users by name."""
        rows = self._database.fetch(_users().order_by(func.lower(_columns.name)).limit(limit))
        return [read_user(row) for row in rows]

    def anybody(self) -> bool:
        """Whether there is a user who may log in."""
        query = select(literal(1)).where(_columns.disabled_at.is_(None)).select_from(console_user).limit(1)
        return self._database.fetch_value(query) is not None

    def set_role(self, name: str, role: Role) -> User:
        """Change what a user may do, at once.

        Raises:
            WrongUse: If there is no such user, or no owner would be left.
        """
        return self._change(name, {"role": role})

    def disable(self, name: str) -> User:
        """End an account with its sessions and links; its tokens are refused from now on.

        Raises:
            WrongUse: If there is no such user, or no owner would be left.
        """
        return self._change(name, {"disabled_at": func.now()}, ends_sessions=True)

    def enable(self, name: str) -> User:
        """Let a disabled user in again.

        Raises:
            WrongUse: If there is no such user.
        """
        return self._change(name, {"disabled_at": None})

    def set_password(self, name: str, password_hash: str | None) -> User:
        """Replace the password, and end all sessions and links of the user.

        Args:
            name: Whose.
            password_hash: None: no password lets the user in.

        Raises:
            WrongUse: If there is no such user.
        """
        return self._change(name, {"password_hash": password_hash}, ends_sessions=True)

    def _change(self, name: str, values: dict[str, Any], *, ends_sessions: bool = False) -> User:
        user = self.get(name)
        with self._database.begin() as connection:
            connection.execute(_CHANGES, {"lock": _CHANGES_LOCK})
            connection.execute(update(console_user).where(_columns.id == user.id).values(**values))
            left = connection.execute(
                select(_columns.id)
                .where(_columns.role == Role.OWNER, _columns.disabled_at.is_(None))
                .limit(1)
            ).first()
            if user.role is Role.OWNER and not user.is_disabled and left is None:
                raise WrongUse(f"'{user.name}' is the only owner: make somebody else an owner first.")
            if ends_sessions:
                for table in (console_session, console_link):
                    connection.execute(delete(table).where(table.c.user_id == user.id))
        return self.get(name)


class AttemptStore:
    """Attempts to log in; the successful ones are removed, and all after some minutes.

    An attempt is stored before its password is looked at, so that any number at once are counted. Counted are
    those on an account, those from an address, and those on an account from an address: nobody can lock
    an account from one address for those who come from elsewhere.

    Raises:
        Unavailable: From every method, if the database does not answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, name: str, address: str) -> int | None:
        """Store an attempt; its number, or None where there were too many and it has to be refused."""
        account = sha256(name.strip().lower().encode()).digest()
        columns = log_in_attempt.c
        started = insert(log_in_attempt).values(account=account, address=address).returning(columns.id)
        is_old = columns.attempted_at < func.now() - ATTEMPTS_WINDOW
        with self._database.begin() as connection:
            connection.execute(delete(log_in_attempt).where(is_old))
            number: int = connection.execute(started).scalar_one()
        on_account, from_address = columns.account == account, columns.address == address
        counts = select(
            func.count().filter(from_address),
            func.count().filter(on_account),
            func.count().filter(on_account & from_address),
        ).where(or_(on_account, from_address), ~is_old)
        row = self._database.fetch_one(counts)
        limits = (_MOST_FROM_ADDRESS, _MOST_ON_ACCOUNT, _MOST_ON_ACCOUNT_FROM_ADDRESS)
        is_too_many = row is not None and any(count > most for count, most in zip(row, limits, strict=True))
        return None if is_too_many else number

    def succeed(self, number: int) -> None:
        """Forget an attempt that let somebody in."""
        self._database.execute(delete(log_in_attempt).where(log_in_attempt.c.id == number))


def read_user(row: Row[Any]) -> User:
    """A user from a row of ``console_user``."""
    return User(
        row.id,
        row.name,
        Role(row.role),
        row.disabled_at is not None,
        row.password_hash is not None,
        row.created_at,
        row.created_by,
    )


def _users() -> Select[Any]:
    return select(console_user)


def _is(name: str) -> Any:
    return func.lower(_columns.name) == func.lower(name)
