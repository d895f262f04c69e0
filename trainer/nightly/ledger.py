"""Where a run is written down as it goes: in the database, or, for a dry run, nowhere."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from reviews.adapter import Activation, AdapterVersion
from reviews.retry import Retry
from reviews.training_run import RunState, TrainingItem, TrainingRun
from storage.learning.leases import Lease
from storage.learning.runs import Decision, TrainingRunStore

Result = TypeVar("Result")


class Ledger(Protocol):
    """What a night tells of itself; every call may refuse, and then the night ends."""

    @property
    def run(self) -> int:
        """The run's number; 0 of a dry run."""

    def check(self) -> None:
        """Refuse to go on where somebody asked to stop or the lease is lost."""

    def patiently(self, do: Callable[[], Result]) -> Result:
        """What ``do`` returns, however often it has to be done until the database answers."""

    def reach(self, stage: str) -> None:
        """The next stage begins."""

    def freeze(self, items: Sequence[TrainingItem], manifest: Mapping[str, Any]) -> None:
        """The dataset is this."""

    def decide(
        self,
        state: Decision,
        verdict: Mapping[str, Any],
        metrics: Mapping[str, Any] | None = None,
        candidate: str | None = None,
    ) -> None:
        """Nothing is promoted."""

    def promote(
        self,
        version: AdapterVersion,
        expected: Activation | None,
        reason: str,
        verdict: Mapping[str, Any],
        metrics: Mapping[str, Any],
    ) -> None:
        """The candidate takes over."""

    def close(self) -> TrainingRun:
        """Nothing is left to do; the run as it is written down."""

    def fail(self, error: str) -> None:
        """The night ends with an error."""


class RunLedger:
    """Writes a run into the database, as whoever holds the lease.

    Args:
        runs: Where.
        run: The run's number.
        lease: The lease that it is done under.
        check: Refuses to go on.
        patience: With a database that is away; holds the lease.
    """

    def __init__(
        self,
        runs: TrainingRunStore,
        run: int,
        lease: Lease,
        check: Callable[[], None],
        patience: Retry,
    ) -> None:
        self._runs = runs
        self._run = run
        self._lease = lease
        self._check = check
        self._patience = patience

    @property
    def run(self) -> int:
        """The run's number."""
        return self._run

    def check(self) -> None:
        """Refuse to go on where somebody asked to stop or the lease is lost."""
        self._check()

    def patiently(self, do: Callable[[], Result]) -> Result:
        """What ``do`` returns, once the database answers."""
        return self._patience(do)

    def reach(self, stage: str) -> None:
        """Write down that the next stage begins."""
        self._check()
        self._patience(lambda: self._runs.reach(self._run, self._lease, stage))

    def freeze(self, items: Sequence[TrainingItem], manifest: Mapping[str, Any]) -> None:
        """Keep the dataset."""
        self._patience(lambda: self._runs.freeze(self._run, self._lease, items, manifest))

    def decide(
        self,
        state: Decision,
        verdict: Mapping[str, Any],
        metrics: Mapping[str, Any] | None = None,
        candidate: str | None = None,
    ) -> None:
        """Write down that nothing is promoted, and why."""
        self._patience(
            lambda: self._runs.decide(
                self._run, self._lease, state, verdict=verdict, metrics=metrics, candidate=candidate
            )
        )

    def promote(
        self,
        version: AdapterVersion,
        expected: Activation | None,
        reason: str,
        verdict: Mapping[str, Any],
        metrics: Mapping[str, Any],
    ) -> None:
        """Let the candidate take over and write it down, at once."""
        self._check()
        self._patience(
            lambda: self._runs.promote(
                self._run,
                self._lease,
                version,
                expected=expected,
                reason=reason,
                verdict=verdict,
                metrics=metrics,
            )
        )

    def close(self) -> TrainingRun:
        """Write down that nothing is left to do."""
        self._patience(lambda: self._runs.close(self._run, self._lease))
        return self._patience(lambda: self._runs.show(self._run))

    def fail(self, error: str) -> None:
        """Write down why the night ended, if the database answers: the next run does it otherwise."""
        self._runs.fail(self._run, self._lease, error)


class DryLedger:
    """Writes nothing, and remembers what would have been written.

    Args:
        task: Whose adapter is trained.
        config: Settings and seed.
        active: What serves.
        check: Refuses to go on.
    """

    def __init__(
        self, task: str, config: Mapping[str, Any], active: str | None, check: Callable[[], None]
    ) -> None:
        self._told = TrainingRun(
            0, task, "dry run", "running", "start", datetime.now(UTC), None, config, active_adapter=active
        )
        self._check = check

    @property
    def run(self) -> int:
        """No run has this number."""
        return 0

    def check(self) -> None:
        """Refuse to go on where somebody asked to stop."""
        self._check()

    def patiently(self, do: Callable[[], Result]) -> Result:
        """What ``do`` returns; who rehearses can do so again."""
        return do()

    def reach(self, stage: str) -> None:
        """Remember the stage."""
        self._check()
        self._told = replace(self._told, stage=stage)

    def freeze(self, items: Sequence[TrainingItem], manifest: Mapping[str, Any]) -> None:
        """Remember what the dataset is."""
        del items
        self._told = replace(self._told, manifest=manifest)

    def decide(
        self,
        state: Decision,
        verdict: Mapping[str, Any],
        metrics: Mapping[str, Any] | None = None,
        candidate: str | None = None,
    ) -> None:
        """Remember why nothing would be promoted."""
        self._decided(state, verdict, metrics, candidate)

    def promote(
        self,
        version: AdapterVersion,
        expected: Activation | None,
        reason: str,
        verdict: Mapping[str, Any],
        metrics: Mapping[str, Any],
    ) -> None:
        """Remember that the candidate would take over."""
        del expected, reason
        self._decided("promoted", verdict, metrics, version.version)

    def close(self) -> TrainingRun:
        """What was remembered."""
        return replace(self._told, stage="done", finished_at=datetime.now(UTC))

    def fail(self, error: str) -> None:
        """Nothing to write down."""
        del error

    def _decided(
        self,
        state: RunState,
        verdict: Mapping[str, Any],
        metrics: Mapping[str, Any] | None,
        candidate: str | None,
    ) -> None:
        self._told = replace(
            self._told, state=state, verdict=verdict, metrics=metrics, candidate_adapter=candidate
        )
