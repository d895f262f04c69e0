"""Evidence made by hand: which rows each adapter has right, and how sure both are."""

import numpy as np

from trainer.gate.evidence import Evidence

LABELS = ("negative", "positive")


def answers(said, sure=0.8):
    """float64 (rows, 2): ``sure`` for what is said; one number or one a row."""
    said, sure = np.array(said), np.broadcast_to(np.asarray(sure, np.float64), len(said))
    result = np.empty((len(said), 2))
    result[np.arange(len(said)), said] = sure
    result[np.arange(len(said)), 1 - said] = 1 - sure
    return result


def evidence(truth, active, candidate, *, audit=None, segments=None, active_sure=0.8, candidate_sure=0.8):
    truth = np.array(truth, np.int64)
    return Evidence(
        truth,
        None if active is None else answers(active, active_sure),
        answers(candidate, candidate_sure),
        LABELS,
        np.zeros(len(truth), np.bool_) if audit is None else np.array(audit, np.bool_),
        segments or {},
    )


def differing(both_right, wins, losses, both_wrong, **more):
    """Rows in this order, each half of its labels 0 and half 1."""
    rows = both_right + wins + losses + both_wrong
    truth = np.arange(rows) % 2
    was_right = np.repeat([True, False, True, False], [both_right, wins, losses, both_wrong])
    right = np.repeat([True, True, False, False], [both_right, wins, losses, both_wrong])
    return evidence(truth, np.where(was_right, truth, 1 - truth), np.where(right, truth, 1 - truth), **more)


def failed(verdict):
    return [check.name for check in verdict.checks if not check.passed]
