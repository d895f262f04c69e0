"""What becomes of a candidate that was judged: registered, proved and promoted, or kept out with reasons."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifier.adapters.manifest import describe_adapter
from storage.adapters.registry import ActivationConflict
from trainer.gate.verdict import Check, Verdict
from trainer.nightly.probing import probe

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from reviews.adapter import Activation, AdapterVersion
    from storage.adapters.registry import AdapterStore
    from trainer.nightly.evaluating import Scoring
    from trainer.nightly.ledger import Ledger
    from trainer.nightly.snapshot import Snapshot
    from trainer.train import Outcome


@dataclass(frozen=True, slots=True)
class Judged:
    """A candidate and what the gate said.

    Attributes:
        outcome: What was fitted.
        snapshot: On what.
        probed: float64 (rows, labels), the candidate's answers to the probe's rows.
        verdict: What the gate said.
        metrics: What is kept with the run, ready for JSON.
    """

    outcome: "Outcome"
    snapshot: "Snapshot"
    probed: "npt.NDArray[np.float64]"
    verdict: Verdict
    metrics: Mapping[str, Any]

    @property
    def version(self) -> "AdapterVersion":
        """The candidate as the registry knows it."""
        if self.outcome.manifest is None:
            raise RuntimeError("A nightly run fits adapters, not whole models.")
        return describe_adapter(self.outcome.manifest)


class Promotion:
    """Lets candidates take over, or writes down why not.

    Args:
        adapters: The registry.
        load: A directory to a classifier.
        ledger: Where it is written down.
        is_dry: Change nothing anywhere.
    """

    def __init__(
        self, adapters: "AdapterStore", load: "Callable[[Path], Scoring]", ledger: "Ledger", *, is_dry: bool
    ) -> None:
        self._adapters = adapters
        self._load = load
        self._ledger = ledger
        self._is_dry = is_dry

    def settle(self, judged: Judged, active: "Activation | None", scratch: Path) -> None:
        """Register, prove and promote a candidate that passed; keep what serves otherwise.

        Args:
            judged: The candidate.
            active: What it was compared with, and alone may replace.
            scratch: A folder for this night.
        """
        verdict, version = judged.verdict, judged.version
        if verdict.promote:
            self._ledger.reach("register")
            verdict = verdict.with_check(self._prove(judged, scratch))
        if not verdict.promote:
            self._ledger.decide("kept", verdict.to_json(), judged.metrics, version.version)
            return
        self._ledger.reach("promote")
        try:
            self._ledger.promote(
                version, active, " ".join(verdict.reasons), verdict.to_json(), judged.metrics
            )
        except ActivationConflict as err:
            late = verdict.with_check(Check("active", passed=False, value=0, limit=0, detail=str(err)))
            self._ledger.decide("kept", late.to_json(), judged.metrics, version.version)

    def _prove(self, judged: Judged, scratch: Path) -> Check:
        """Register the candidate, and look at it as a worker will find it."""
        files, version = judged.outcome.files, judged.version
        if not self._is_dry:
            self._ledger.patiently(lambda: self._adapters.add(version, judged.outcome.files))
            files = self._ledger.patiently(lambda: self._adapters.files(version.version))
        return probe(files, scratch / "probe", self._load, judged.snapshot, judged.probed)
