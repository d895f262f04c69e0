"""Whether the candidate's probabilities can be relied on as the active adapter's can."""

import numpy as np

from trainer.gate.bootstrap import resampled_sums
from trainer.gate.evidence import Evidence, Floats
from trainer.gate.settings import GateSettings
from trainer.gate.verdict import Check

_BINS = 15
_LEAST_PROBABILITY = 1e-7


def calibrated(evidence: Evidence, settings: GateSettings, seed: int) -> Check:
    """The check ``calibration``: the expected calibration error does not rise beyond tolerance and chance.

    A first adapter, which replaces none, is held against ``max_calibration_error``.
    """
    candidate = calibration_gaps(evidence, evidence.candidate)
    error = _calibration_error(candidate.sum(axis=0), len(candidate))
    if evidence.active is None:
        limit = settings.max_calibration_error
        detail = f"The candidate's calibration error is {error:.3f}; a first adapter's may be {limit:.3f}."
        return Check("calibration", bool(error <= limit), float(error), limit, detail)
    active = calibration_gaps(evidence, evidence.active)
    sums = resampled_sums(np.hstack([active, candidate]), settings.resamples, seed)
    before, after = np.split(sums, 2, axis=1)
    rises = _calibration_error(after, len(active)) - _calibration_error(before, len(active))
    old = _calibration_error(active.sum(axis=0), len(active))
    told = f"The calibration error goes from {old:.3f} to {error:.3f}"
    tolerance = settings.calibration_tolerance
    return _no_worse("calibration", float(error - old), rises, tolerance, settings.calibration_alpha, told)


def as_likely(evidence: Evidence, settings: GateSettings, seed: int) -> Check:
    """The check ``likelihood``: the true labels' mean negative log-likelihood does not rise likewise.

    It sees what the calibration error cannot: few answers that are wrong and very sure.

    Raises:
        ValueError: Without an active adapter.
    """
    if evidence.active is None:
        raise ValueError("There is no active adapter to compare with.")
    rows, weights = np.arange(len(evidence.truth)), evidence.row_weights
    old, new = (
        -weights * np.log(np.maximum(said[rows, evidence.truth], _LEAST_PROBABILITY))
        for said in (evidence.active, evidence.candidate)
    )
    rises = resampled_sums((new - old)[:, None], settings.resamples, seed)[:, 0] / len(rows)
    told = f"The mean negative log-likelihood goes from {old.mean():.3f} to {new.mean():.3f}"
    rise, tolerance = float(new.mean() - old.mean()), settings.likelihood_tolerance
    return _no_worse("likelihood", rise, rises, tolerance, settings.calibration_alpha, told)


def calibration_gaps(evidence: Evidence, said: Floats) -> Floats:
    """float64 (rows, bins): confidence less correctness of a row in the bin of its confidence, weighted.

    The expected calibration error is the mean of the bins' absolute sums, with the bins of
    :func:`classifier.calibration.expected_calibration_error`.
    """
    confidence = said.max(axis=1)
    gaps = np.zeros((len(said), _BINS))
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gaps[np.arange(len(said)), bins] = confidence - (said.argmax(axis=1) == evidence.truth)
    return gaps * evidence.row_weights[:, None]


def _calibration_error(sums: Floats, rows: int) -> Floats:
    return np.asarray(np.abs(sums).sum(axis=-1) / max(1, rows))


def _no_worse(  # noqa: PLR0917  one call a check
    name: str, rise: float, rises: Floats, tolerance: float, alpha: float, told: str
) -> Check:
    """Fails where the rise is more than the tolerance and nearly all resamples rise too."""
    certain = float(np.quantile(rises, alpha)) > 0
    passed = rise <= tolerance or not certain
    if rise <= tolerance:
        end = f"; {tolerance:.3f} more would be tolerated."
    else:
        doubt = "and no chance" if certain else "maybe by chance"
        end = f": more than the tolerated {tolerance:.3f}, {doubt}."
    return Check(name, passed, rise, tolerance, told + end)
