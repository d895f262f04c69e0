"""Where a run is written down as it goes: in the database under its lease; a dry run only in memory."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Concatenate, ParamSpec

import structlog

from reviews.retry import Retry
from reviews.training_run import TrainingRun
from storage.learning.leases import Lease
from storage.learning.runs import TrainingRunStore

log = structlog.get_logger()

_P = ParamSpec("_P")


class Ledger:
    """One run; every call may refuse, and then the run ends.

    Args:
        run: The run as it begins.
        runs: The store of runs.
        lease: What the run is done under; None: a dry run, which writes nothing.
        check: Refuses to go on where the run was asked to stop or the lease is lost.
        patiently: Does work again until the database answers.
    """

    def __init__(
        self,
        run: TrainingRun,
        runs: TrainingRunStore,
        lease: Lease | None,
        check: Callable[[], None],
        patiently: Retry,
    ) -> None:
        self.run = run
        self.runs = runs
        self.check = check
        self.patiently = patiently
        self._lease = lease

    @property
    def is_dry(self) -> bool:
        """Whether nothing is to be changed anywhere."""
        return self._lease is None

    def reach(self, stage: str) -> None:
        """The next stage begins."""
        self.check()
        self.write(self.runs.reach, stage)
        self.note(stage=stage)
        log.info("stage_begins", run=self.run.id, stage=stage)

    def write(
        self, write: Callable[Concatenate[int, Lease, _P], object], /, *given: _P.args, **named: _P.kwargs
    ) -> None:
        """Call a method of the store for this run under its lease, until the database answers."""
        lease = self._lease
        if lease is not None:
            self.patiently(lambda: write(self.run.id, lease, *given, **named))

    def note(self, **fields: Any) -> None:
        """Remember what is known of the run by now."""
        self.run = replace(self.run, **fields)
