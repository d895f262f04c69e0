"""The gate: every check on one candidate, in order."""

from trainer.gate.calibration import as_likely, calibrated
from trainer.gate.enough import enough_rows
from trainer.gate.evidence import Evidence
from trainer.gate.improvement import above_floor, beats_majority, improves
from trainer.gate.regressions import nothing_regresses
from trainer.gate.settings import GateSettings
from trainer.gate.verdict import Verdict


def judge(evidence: Evidence, settings: GateSettings, *, attempts_before: int, seed: int) -> Verdict:
    """Whether the candidate may replace the active adapter, and why.

    Args:
        evidence: Both adapters' answers to the frozen test and audit rows.
        settings: How strict to be.
        attempts_before: Verdicts on this task that compared adapters (:attr:`Verdict.is_attempt`) since the
            last promotion, or since the test rows were all replaced by new ones, whichever is later. New
            labels that join the old ones do not renew them, and a rollback does not either.
        seed: Of what is drawn; the same seed gives the same verdict.
    """
    rows = enough_rows(evidence, settings)
    if not rows.passed:
        return Verdict((rows,))
    checks = [
        rows,
        above_floor(evidence, settings),
        beats_majority(evidence, settings),
        improves(evidence, settings, attempts_before, seed),
        calibrated(evidence, settings, seed),
    ]
    if evidence.active is not None:
        checks += [as_likely(evidence, settings, seed), *nothing_regresses(evidence, settings)]
    return Verdict(tuple(checks))
