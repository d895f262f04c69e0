"""Both adapters on the held-out rows, and the candidate beside its stored copy.

In bf16 the general engine's logits of a text depend a little on the texts beside it. So the candidate and its
stored copy are given the same rows in a batch of their own, and like is compared with like.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifier.adapters.store import write_files
from drift.audited import AuditAnswers, audited_performance
from reviews.errors import AdapterError, ModelError
from reviews.label_set import LabelSet, common_labels
from trainer.gate.evidence import (
    Booleans,
    Evidence,
    Floats,
    Integers,
    Scorer,
    segments_of,
    stream_weights,
    summed,
)
from trainer.gate.verdict import Check
from trainer.metrics import evaluate
from trainer.nightly.cross_checks import HeldOutByFolds
from trainer.nightly.snapshot import HELD_OUT, Row, Snapshot

_TOLERANCE = 1e-3
_FIRST_ROWS = 32


def gather(
    snapshot: Snapshot, active_scorer: Scorer | None, candidate: Scorer, checks: HeldOutByFolds | None = None
) -> Evidence:
    """Both adapters' probabilities for the frozen test and audit rows, and for those of cross-checks.

    Of the candidate alone where the active adapter has other labels than the run: :func:`on_common_labels`.
    """
    held_out = snapshot.of(*HELD_OUT)
    checks = checks or HeldOutByFolds((), np.empty((0, len(snapshot.names))))
    rows, of_active = (*held_out, *checks.rows), None
    if active_scorer is not None and set(active_scorer.labels) == set(snapshot.names):
        of_active = probabilities_of(active_scorer, rows, snapshot.names)
    truth = np.array([row.label for row in rows], np.int64)
    of_candidate = np.concatenate((probabilities_of(candidate, held_out, snapshot.names), checks.said))
    return _evidence(rows, truth, of_active, of_candidate, snapshot.names)


def on_common_labels(
    snapshot: Snapshot, evidence: Evidence, active_scorer: Scorer | None, label_set: LabelSet | None
) -> Evidence | None:
    """Both adapters on the classes that both know, where the active one has other labels than the run.

    None where it has the same ones, where fewer than two classes are known to both, and where no row has one.

    Args:
        snapshot: Its held-out rows.
        evidence: Of :func:`gather`: what the candidate says of them.
        active_scorer: The active adapter.
        label_set: What was declared about the labels.
    """
    if active_scorer is None or evidence.active is not None:
        return None
    rows, names = snapshot.of(*HELD_OUT), snapshot.names
    common = common_labels(active_scorer.labels, names, label_set)
    truth = np.array([common.class_of.get(names[row.label], -1) for row in rows], np.int64)
    kept = np.flatnonzero(truth >= 0)
    if not common.is_comparable or not len(kept):
        return None
    known = [rows[number] for number in kept]
    of_active = probabilities_of(active_scorer, known, active_scorer.labels)
    return _evidence(
        known,
        truth[kept],
        summed(of_active, common.first, len(common.names)),
        summed(evidence.candidate[kept], common.second, len(common.names)),
        common.names,
        left_out=len(rows) - len(kept),
    )


def _evidence(
    rows: Sequence[Row],
    truth: Integers,
    active: Floats | None,
    candidate: Floats,
    labels: tuple[str, ...],
    *,
    left_out: int = 0,
) -> Evidence:
    is_audit = np.array([row.slice == "audit" and row.review.is_drawn for row in rows], np.bool_)
    return Evidence(
        truth=truth,
        active=active,
        candidate=candidate,
        labels=labels,
        is_audit=is_audit,
        segments=segments(rows),
        weights=weights(rows, is_audit),
        left_out=left_out,
        draw_weights=draw_weights(rows),
    )


def about_common(common: Evidence) -> dict[str, Any]:
    """Both adapters on the classes that both know, ready for JSON."""
    return {
        "labels": list(common.labels),
        "rows": len(common.truth),
        "left_out": common.left_out,
        **metrics_of(common),
    }


def probabilities_of(scorer: Scorer, rows: Sequence[Row], names: Sequence[str]) -> npt.NDArray[np.float64]:
    """float64 (rows, labels): calibrated probabilities in the order of these names; rows sum to 1."""
    predictions = scorer.predict([row.review.text for row in rows])
    order = [scorer.labels.index(name) for name in names]
    found = np.array([one.probabilities for one in predictions], np.float64).reshape(len(rows), -1)
    return np.asarray(found[:, order] if len(rows) else np.empty((0, len(names))))


def segments(rows: Sequence[Row]) -> dict[str, list[str]]:
    """For each kind of segment, the segment of each row: product, source, length and month."""
    reviews = [row.review for row in rows]
    return segments_of(
        [review.text for review in reviews],
        [review.product for review in reviews],
        [review.source for review in reviews],
        [review.published_at for review in reviews],
    )


def weights(rows: Sequence[Row], is_audit: Booleans) -> Floats | None:
    """float64 (rows): what makes the rows look like the stream; None where too few were audited."""
    # Rows labelled before they were scored are one kind: how they were chosen is unknown.
    _, predicted = np.unique([row.review.predicted or "" for row in rows], return_inverse=True)
    margins = np.array([row.review.margin or 0.0 for row in rows], np.float64)
    return stream_weights(is_audit, predicted, margins, draw_weights(rows))


def draw_weights(rows: Sequence[Row]) -> Floats:
    """float64 (rows), in (0, 1]: how much each counts among what the audit drew."""
    return np.array([row.review.draw_weight for row in rows], np.float64)


def metrics_of(evidence: Evidence) -> dict[str, dict[str, float]]:
    """Accuracy, macro-F1 and so on, of both adapters on all rows and, weighted, on the audit rows, if any."""
    found: dict[str, dict[str, float]] = {}
    audited = evidence.is_audit
    for who, probabilities in (("active", evidence.active), ("candidate", evidence.candidate)):
        if probabilities is not None:
            found[who] = evaluate(probabilities, evidence.truth)
        if probabilities is not None and audited.any():
            weights = None if evidence.draw_weights is None else evidence.draw_weights[audited]
            audit = evaluate(probabilities[audited], evidence.truth[audited], weights)
            found[who] |= {f"audit_{name}": value for name, value in audit.items()}
            found[who] |= audit_intervals(probabilities[audited], evidence.truth[audited], weights)
    return found


def audit_intervals(probabilities: Floats, truth: Integers, weights: Floats | None) -> dict[str, float]:
    """Ends of the 95 % intervals of accuracy and macro-F1 on audit rows, of which there is at least one.

    Of a candidate no predictions of the stream are stored, so that the rows speak for themselves.
    """
    counting = np.ones(len(truth)) if weights is None else weights
    measured = audited_performance(AuditAnswers(truth, probabilities.argmax(axis=1), probabilities, counting))
    return {
        f"audit_{name}_{end}": getattr(figure, end)
        for name, figure in (("accuracy", measured.accuracy), ("macro_f1", measured.macro_f1))
        for end in ("low", "high")
    }


def confusion_of(evidence: Evidence) -> dict[str, list[list[int]]]:
    """How often each label of people (rows) got each label (columns), by both adapters, ready for JSON."""
    size = len(evidence.labels)
    return {
        who: np.bincount(evidence.truth * size + probabilities.argmax(axis=1), minlength=size * size)
        .reshape(size, size)
        .tolist()
        for who, probabilities in (("active", evidence.active), ("candidate", evidence.candidate))
        if probabilities is not None
    }


def first_rows_alone(scorer: Scorer, snapshot: Snapshot) -> npt.NDArray[np.float64]:
    """float64 (rows, labels): probabilities for the first held-out rows, in a batch of their own."""
    return probabilities_of(scorer, snapshot.of(*HELD_OUT)[:_FIRST_ROWS], snapshot.names)


def check_stored_copy(
    files: Mapping[str, bytes],
    scratch: Path,
    load: Callable[[Path], Scorer],
    snapshot: Snapshot,
    expected: npt.NDArray[np.float64],
) -> Check:
    """The check ``probe``: loaded as a worker loads it, the adapter predicts as it did when it was judged.

    Args:
        files: As the database gives them back.
        scratch: Where they may be written.
        load: A directory to a classifier, which proves itself while it is loaded.
        snapshot: Some of its held-out rows are predicted.
        expected: float64 (rows, labels), the candidate's own probabilities, of :func:`first_rows_alone`.
    """
    try:
        found = first_rows_alone(load(write_files(files, scratch)), snapshot)
    except (AdapterError, ModelError) as err:
        return Check("probe", passed=False, value=1.0, limit=_TOLERANCE, detail=str(err))
    worst = float(np.abs(found - expected).max(initial=0.0))
    said = f"Fetched from the database and loaded, it scores {len(found)} rows within {worst:.1g} of before."
    return Check("probe", passed=worst <= _TOLERANCE, value=worst, limit=_TOLERANCE, detail=said)
