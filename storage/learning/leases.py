"""Work that one process at a time may do: leases with a token that fences off the former holder.

A process can be frozen at any moment and wake up when its lease is long gone. So it does not look at its
lease and then write: it writes in a transaction that holds the lease's row. Kleppmann: How to do distributed
locking (2016) calls the growing number a fencing token.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from reviews.errors import ReviewLoopError, Unavailable
from storage.database import Database


class LeaseHeld(Unavailable):
    """Somebody else is at this work: wait, or leave it to them."""


class LeaseLost(ReviewLoopError):
    """Somebody else may be at this work by now: stop, and change nothing more."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to do some work, as it was given.

    Attributes:
        name: Of the work, for example ``trainer:sentiment``.
        holder: Who does it, for people.
        token: Grows with every new holder.
    """

    name: str
    holder: str
    token: int


@dataclass(frozen=True, slots=True)
class HeldLease:
    """Who has a lease, and until when (UTC, the database's clock) if it is not renewed."""

    name: str
    holder: str
    expires_at: datetime


# The clock is read when the row is locked, not when the transaction began: it may have waited in between.
_TAKE = text(
    "INSERT INTO lease (name, holder, token, expires_at) "
    "VALUES (:name, :holder, 1, clock_timestamp() + make_interval(secs => :seconds)) "
    "ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, token = lease.token + 1, "
    "expires_at = clock_timestamp() + make_interval(secs => :seconds) "
    "WHERE lease.expires_at <= clock_timestamp() RETURNING token"
)
_RENEW = text(
    "UPDATE lease SET expires_at = clock_timestamp() + make_interval(secs => :seconds) "
    "WHERE name = :name AND token = :token"
)
# The token grows here too: a renewal that is still on its way must not bring the lease back to life.
_RELEASE = text(
    "UPDATE lease SET expires_at = clock_timestamp(), token = token + 1 WHERE name = :name AND token = :token"
)
_HOLDS = text(
    "SELECT 1 FROM (SELECT expires_at FROM lease WHERE name = :name AND token = :token FOR UPDATE) held "
    "WHERE expires_at > clock_timestamp()"
)
_HOLDER = text(
    "SELECT name, holder, expires_at FROM lease WHERE name = :name AND expires_at > clock_timestamp()"
)


class LeaseStore:
    """Gives leases out, by the database's clock.

    Raises:
        Unavailable: From every method, if the database does not answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, name: str, holder: str, seconds: float) -> Lease | None:
        """The lease for so long, if nobody has it; None if somebody does."""
        values = {"name": name, "holder": holder, "seconds": seconds}
        token: int | None = self._database.fetch_value(_TAKE, values)
        return None if token is None else Lease(name, holder, token)

    def renew(self, lease: Lease, seconds: float) -> bool:
        """Keep the lease for so long from now; False if it went to somebody else or was given back.

        One that ran out is kept as well, as long as nobody took it: what its holder did was done alone.
        """
        values = {"name": lease.name, "token": lease.token, "seconds": seconds}
        return self._database.execute(_RENEW, values) == 1

    def release(self, lease: Lease) -> None:
        """Give the lease back; nothing happens if it is lost already."""
        self._database.execute(_RELEASE, {"name": lease.name, "token": lease.token})

    @contextmanager
    def alone(self, name: str, seconds: float, work: str) -> Iterator[Lease]:
        """The lease, held by this process for as long as the block runs and keeps it.

        Args:
            name: Of the work.
            seconds: It ends after so long unless it is renewed.
            work: What another process is at, in a message: such as ``Reviews are being erased``.

        Raises:
            LeaseHeld: If another process has it; the block does not run.
        """
        lease = self.take(name, this_process(), seconds)
        if lease is None:
            held = self.holder(name)
            raise LeaseHeld(
                f"{work} already, by {held.holder if held else 'another process'}: nothing was done here. If "
                f"that process is gone, its lease ends within {seconds:.0f} seconds."
            )
        try:
            yield lease
        finally:
            self.release(lease)

    def holder(self, name: str) -> HeldLease | None:
        """Who has the lease; None if nobody does."""
        row = self._database.fetch_one(_HOLDER, {"name": name})
        return HeldLease(*row) if row else None


def this_process() -> str:
    """This process as the holder of leases: its host and its number there."""
    return f"{socket.gethostname()}:{os.getpid()}"


def training_lease(task: str) -> str:
    """The lease under which a task's adapter is trained."""
    return f"trainer:{task}"


def schedule_lease(task: str) -> str:
    """The lease by which a schedule shows that it is there for a task; others may be there as well."""
    return f"schedule:{task}"


def holds(connection: Connection, lease: Lease) -> bool:
    """Whether the lease is still held; if so, nobody can take it before this transaction ends.

    Args:
        connection: In the transaction that does what the lease is needed for.
        lease: As it was given.
    """
    values = {"name": lease.name, "token": lease.token}
    return connection.execute(_HOLDS, values).scalar() is not None


def require_held(connection: Connection, lease: Lease) -> None:
    """Refuse to go on in this transaction without the lease.

    Raises:
        LeaseLost: If it is not held any more.
    """
    if not holds(connection, lease):
        raise LeaseLost(
            f"The lease '{lease.name}' of {lease.holder} ran out or went to somebody else; "
            "nothing was changed."
        )
