"""Keeps a lease while work goes on, and says when it is lost."""

import threading
from types import TracebackType
from typing import Protocol, Self

import structlog

from reviews.errors import Unavailable
from reviews.retry import Outage
from storage.learning.leases import Lease, LeaseLost

log = structlog.get_logger()

_RENEWALS_PER_LEASE = 3


class Leases(Protocol):
    """What the keeper needs of ``storage.learning.leases.LeaseStore``."""

    def renew(self, lease: Lease, seconds: float, /) -> bool:
        """Keep it for so long from now; False if it is lost."""

    def release(self, lease: Lease, /) -> None:
        """Give it back."""


class LeaseKeeper:
    """Renews a lease in a thread of its own, from entering to leaving; then gives it back.

    It cannot know everything: a process that was frozen finds out late. So whatever must not happen without
    the lease looks at the lease's row in its own transaction (:func:`storage.learning.leases.require_held`).
    """

    def __init__(self, leases: Leases, lease: Lease, seconds: float) -> None:
        self._leases = leases
        self._lease = lease
        self._seconds = seconds
        self._outage = Outage("lease_not_renewed", "lease_renewed_again", lease=lease.name)
        self._ended = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        try:
            self._leases.release(self._lease)
        except Unavailable as err:  # it ends by itself
            log.warning("lease_not_given_back", lease=self._lease.name, error=str(err))

    @property
    def lease(self) -> Lease:
        """What is kept."""
        return self._lease

    def check(self) -> None:
        """Refuse to go on with work that somebody else may be doing by now.

        Raises:
            LeaseLost: If it is known that the lease is lost.
        """
        if self._lost.is_set():
            raise LeaseLost(f"The lease '{self._lease.name}' of {self._lease.holder} went to somebody else.")

    def hold(self) -> None:
        """Renew now, so that what comes next has the lease.

        Raises:
            LeaseLost: If it is lost.
            Unavailable: If the database does not answer: nobody can tell.
        """
        if not self._lost.is_set() and not self._leases.renew(self._lease, self._seconds):
            self._lost.set()
            log.warning("lease_lost", lease=self._lease.name, holder=self._lease.holder)
        self.check()

    def renew(self) -> bool:
        """Renew now; whether the lease is still held, as far as anybody can tell."""
        try:
            self.hold()
        except Unavailable as err:
            self._outage.failed(err)
        except LeaseLost:
            return False
        else:
            self._outage.ended()
        return True

    def _keep(self) -> None:
        while not self._ended.wait(self._seconds / _RENEWALS_PER_LEASE) and self.renew():
            pass
