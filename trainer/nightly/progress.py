"""How far the fits of a run are: reported to who watches, logged now and then, and kept in the record."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import structlog

from reviews.errors import Unavailable
from trainer.fitting.fit_data import FitProgress, Report
from trainer.nightly.candidates import Plan

log = structlog.get_logger()
_KEEP_EVERY_SECONDS = 10.0
_PAUSE_AFTER_OUTAGE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How far the fits of a run are.

    Attributes:
        recipe: The one that is fitted now.
        number: Of the recipe among all of them, from 1.
        of: How many recipes are planned.
        epoch: Of the fit at work, from 1; cross-checks are fits of their own.
        step: Steps that it did.
        steps: Steps that it has in all, cut to what there is time for.
        loss: Of its last step, in nats.
        seconds: Since the first fit began.
        budget_seconds: For all fits.
    """

    recipe: str
    number: int
    of: int
    epoch: int
    step: int
    steps: int
    loss: float
    seconds: float
    budget_seconds: float


class Keeper(Protocol):
    """Keeps what a run reports of itself; see :class:`trainer.nightly.run.Ledger`."""

    def check(self) -> None:
        """Refuse to go on."""

    def note_progress(self, progress: dict[str, Any], /) -> None:
        """Keep how far the fits are."""


class FitWatch:
    """Follows the fits of one run.

    Args:
        keeper: Refuses steps of a run that has to end, and keeps the progress.
        plans: All that is to be fitted.
        budget_seconds: For all of it.
        clock: Seconds, from any beginning.
        tell: Called with every step.
    """

    def __init__(
        self,
        keeper: Keeper,
        plans: Sequence[Plan],
        budget_seconds: float,
        clock: Callable[[], float],
        tell: Callable[[RunProgress], None],
    ) -> None:
        self._keeper = keeper
        self._names = [plan.name for plan in plans]
        self._budget_seconds = budget_seconds
        self._clock = clock
        self._tell = tell
        self._began = clock()
        self._keeps_at = self._began + _KEEP_EVERY_SECONDS
        self._recipe = ""

    def begin(self, plan: Plan) -> None:
        """The next recipe is fitted."""
        self._recipe = plan.name

    def report_of(self, note: str) -> Report:
        """What a fit calls after each step: it may refuse to go on."""

        def report(step: FitProgress) -> None:
            self._keeper.check()
            progress = self._at(step)
            self._tell(progress)
            if self._clock() >= self._keeps_at:
                self._keeps_at = self._clock() + _KEEP_EVERY_SECONDS
                log.info("fitting", what=note, epoch=step.epoch, step=step.step, steps=step.steps,
                         loss=round(step.loss, 4))  # fmt: skip
                self._keep(progress)

        return report

    def _at(self, step: FitProgress) -> RunProgress:
        return RunProgress(
            self._recipe,
            self._names.index(self._recipe) + 1 if self._recipe in self._names else 0,
            len(self._names),
            step.epoch,
            step.step,
            step.steps,
            round(step.loss, 4),
            round(self._clock() - self._began, 1),
            self._budget_seconds,
        )

    def _keep(self, progress: RunProgress) -> None:
        """Keep it where the database answers: a fit waits for nothing that is only shown."""
        try:
            self._keeper.note_progress(asdict(progress))
        except Unavailable:
            self._keeps_at = self._clock() + _PAUSE_AFTER_OUTAGE_SECONDS
