"""Runs the training of a task, one at a time under its lease, and records how it ends."""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from threading import Event
from types import TracebackType
from typing import Any, Protocol, Self

import structlog

from reviews.adapter import Activation
from reviews.errors import ReviewLoopError, Unavailable
from reviews.retry import Outage, Retry
from reviews.training_run import TrainingRun
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.learning.leases import Lease, LeaseHeld, LeaseLost, LeaseStore, this_process, training_lease
from storage.learning.runs import TrainingRunStore
from trainer.errors import RunStopped
from trainer.nightly.run import Ledger, NightlyRun, Parts
from trainer.settings import NightlySettings

_RENEWALS_PER_LEASE = 3
log = structlog.get_logger()
_LONGEST_PAUSE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Order:
    """A run to be done.

    Attributes:
        task: Whose adapter is trained.
        trigger: What asked for it.
        seed: Of everything random.
        budget_seconds: For fitting.
        request: The request that becomes this run; None where nobody asked for it.
    """

    task: str
    trigger: str
    seed: int
    budget_seconds: float
    request: int | None = None


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
        """Refuse to go on with work that another trainer may be doing by now.

        Raises:
            LeaseLost: If it is known that the lease is lost.
        """
        if self._lost.is_set():
            raise LeaseLost(
                f"The lease '{self._lease.name}' of {self._lease.holder} went to another trainer."
            )

    def hold(self) -> None:
        """Renew now, so that what comes next has the lease.

        Raises:
            LeaseLost: If it is lost.
            Unavailable: If the database does not answer, so that it is unknown.
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


class Runner:
    """Does runs.

    Args:
        database: Where everything is.
        parts_for: What a run is made of, for a task and its active adapter.
        stopping: Set to end the run at work.
        nightly: How long a trainer may show no sign of life, and the database be away.
        before: Called with the task, under its lease, before a run reads the active adapter; called again
            where the database does not answer.
        wrap: Put around the ledger of a run; for tests.
    """

    def __init__(
        self,
        database: Database,
        parts_for: Callable[[str, Activation | None], Parts],
        stopping: Event,
        nightly: NightlySettings,
        *,
        before: Callable[[str], None] = lambda _: None,
        wrap: Callable[[Ledger], Ledger] = lambda ledger: ledger,
    ) -> None:
        self._database = database
        self._parts_for = parts_for
        self._stopping = stopping
        self._nightly = nightly
        self._before = before
        self._wrap = wrap

    def run(self, order: Order) -> TrainingRun:
        """A run to its end.

        Raises:
            LeaseHeld: If another trainer works on the task; says who.
            LeaseLost: If the lease was lost meanwhile: the trainer that has it now records the run as failed.
            RunStopped: If it was asked to stop.
            Unavailable: If the database was away for too long.
            ReviewLoopError: If it failed; it is written down.
        """
        leases, adapters = LeaseStore(self._database), AdapterStore(self._database)
        lease = self._patience()(lambda: self._take(leases, order.task))
        with LeaseKeeper(leases, lease, self._nightly.lease_seconds) as keeper:
            patience = self._patience(keeper.hold)
            patience(lambda: self._before(order.task))
            activation = patience(lambda: adapters.active(order.task))
            parts = patience(lambda: self._parts_for(order.task, activation))
            ledger = self._begin(order, keeper, activation, parts)
            try:
                return _nightly_run(order, parts, ledger, activation).run()
            except LeaseLost:
                raise  # nothing can be written without it
            except BaseException as err:
                with suppress(LeaseLost, Unavailable):
                    ledger.runs.fail(ledger.run.id, lease, _sentence(err))
                raise

    def plan(self, order: Order) -> TrainingRun:
        """What a run would fit now, and about how long it would take; nothing is fitted or changed.

        Raises:
            ReviewLoopError: If a run could not go on.
        """
        return self._unrecorded_run(order).plan()

    def evaluate(self, order: Order) -> TrainingRun:
        """What a run would come to now: candidates are fitted and judged, and nothing is changed.

        Raises:
            RunStopped: If it was asked to stop.
            ReviewLoopError: If it failed.
        """
        return self._unrecorded_run(order).run()

    def _unrecorded_run(self, order: Order) -> NightlyRun:
        """A run that changes nothing and needs no lease; an unavailable database ends it at once."""
        activation = AdapterStore(self._database).active(order.task)
        parts = self._parts_for(order.task, activation)
        run = TrainingRun(0, order.task, "dry run", "running", "start", datetime.now(UTC), None)
        active_version = activation.version if activation else None
        run = replace(run, config=_config(order, parts), active_adapter=active_version)
        once = Retry(
            "database_unavailable", "database_back", longest_seconds=0, wait=lambda _: False, attempts=1
        )
        ledger = Ledger(run, TrainingRunStore(self._database), None, self._require_going_on, once)
        return _nightly_run(order, parts, ledger, activation)

    def _patience(self, hold: Callable[[], None] = lambda: None) -> Retry:
        """Waits for an unavailable database, as long as the settings say.

        A lease cannot be renewed while the database is unavailable: it is taken up again before each attempt.
        """
        return Retry(
            "database_unavailable",
            "database_back",
            longest_seconds=_LONGEST_PAUSE_SECONDS,
            wait=self._stopping.wait,
            is_final=lambda err: isinstance(err, LeaseHeld),  # the database did answer
            outage_seconds=self._nightly.outage_seconds,
            before=hold,
        )

    def _take(self, leases: LeaseStore, task: str) -> Lease:
        name, holder = training_lease(task), this_process()
        lease = leases.take(name, holder, self._nightly.lease_seconds)
        if lease is None:
            held = leases.holder(name)
            who = (
                f"{held.holder}, until {held.expires_at:%H:%M:%S} UTC or longer"
                if held
                else "another process"
            )
            raise LeaseHeld(f"Another trainer works on the task '{task}': {who}. Nothing was done.")
        return lease

    def _begin(
        self, order: Order, keeper: LeaseKeeper, activation: Activation | None, parts: Parts
    ) -> Ledger:
        runs, lease, patience = TrainingRunStore(self._database), keeper.lease, self._patience(keeper.hold)
        active_version, config = activation.version if activation else None, _config(order, parts)
        number = patience(
            lambda: runs.start(
                order.task, order.trigger, lease, config, active_version, request=order.request
            )
        )
        log.info("run_started", run=number, task=order.task, trigger=order.trigger, active=active_version)

        def check() -> None:
            self._require_going_on()
            keeper.check()

        run = TrainingRun(number, order.task, order.trigger, "running", "start", datetime.now(UTC), None)
        return self._wrap(Ledger(run, runs, lease, check, patience))

    def _require_going_on(self) -> None:
        if self._stopping.is_set():
            raise RunStopped("The run was stopped: the active adapter stays, and the next run starts clean.")


def _nightly_run(order: Order, parts: Parts, ledger: Ledger, activation: Activation | None) -> NightlyRun:
    return NightlyRun(parts, ledger, activation, seed=order.seed, budget_seconds=order.budget_seconds)


def _config(order: Order, parts: Parts) -> dict[str, Any]:
    return {
        "seed": order.seed,
        "budget_seconds": order.budget_seconds,
        "base_model": parts.classifier.base_model,
        "recipe": parts.settings.recipe(),
        "nightly": parts.settings.nightly.model_dump(mode="json"),
        "gate": parts.settings.gate.model_dump(mode="json"),
        "selection": parts.settings.selection.model_dump(mode="json"),
    }


def _sentence(err: BaseException) -> str:
    return str(err) if isinstance(err, ReviewLoopError) else f"{type(err).__name__}: {err}"
