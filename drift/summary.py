"""An evaluation as plain JSON values, with everything that a report shows."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np

from drift.evaluation import Evaluation
from drift.rows import Floats, Integers, ReviewRows
from drift.strata import Strata
from drift.verdict import Judged
from drift.words import LANGUAGES, KnownWords, languages

_BINS = 12
_EXAMPLES = 8


def summarise(evaluation: Evaluation, reference: ReviewRows, window: ReviewRows) -> dict[str, Any]:
    """What was found, for the report's ``measures``.

    Args:
        evaluation: Of these two.
        reference: The rows that were looked at.
        window: The same.
    """
    since, compared = evaluation.since_row, window.take(evaluation.compared)
    return {
        "moved": list(evaluation.moved),
        "since": None if since is None else moment(int(window.scored[since])),
        "looked_at": {"reference": len(reference), "window": len(window)},
        "seasons": {"saw_week": evaluation.saw_week, "compared": len(evaluation.compared)},
        "findings": [_judged(item) for item in evaluation.judged],
        "within_classes": [_judged(item) for item in evaluation.within_classes],
        "expected": {
            "reference": asdict(evaluation.expected[0]),
            "window": asdict(evaluation.expected[1]),
            "calibrated_on": evaluation.calibration.labels,
        },
        "shapes": _shapes(reference, compared) if len(reference) and len(compared) else {},
    }


def explain(evaluation: Evaluation, window: ReviewRows) -> dict[str, Any]:
    """What makes up the shift, for the report's ``attribution``; empty without drift."""
    found = evaluation.attribution
    if found is None:
        return {}
    return {
        "new_share": found.new_share,
        "products": [asdict(part) for part in found.products],
        "sources": [asdict(part) for part in found.sources],
        "words": [asdict(part) for part in found.words],
        "clusters": [asdict(part) for part in found.clusters],
        "examples": [int(record) for record in window.records[found.new_rows[:_EXAMPLES]]],
        "to_label": [int(record) for record in evaluation.to_label],
    }


def course(
    evaluation: Evaluation, reference: ReviewRows, window: ReviewRows, starts: Integers, width: int
) -> list[dict[str, Any]]:
    """Measures that sums in the database cannot give, per stretch of time.

    Args:
        evaluation: Of these two.
        reference: The rows that were looked at.
        window: The same.
        starts: int64 (stretches): when each begins, microseconds since 1970, rising, evenly spaced.
        width: How long each is, in microseconds.

    Returns:
        For each stretch with rows, its beginning, the mean share of unknown words, the accuracy to expect,
        and how many rows were looked at.
    """
    words = KnownWords(reference.texts)
    unknown = np.concatenate(
        [words.unknown_shares(reference.texts, of_reference=True), words.unknown_shares(window.texts)]
    )
    sure = np.concatenate(
        [
            evaluation.calibration.apply(side.probabilities)[np.arange(len(side)), side.labels]
            for side in (reference, window)
        ]
    )
    scored = np.concatenate([reference.scored, window.scored])
    found = []
    for start in starts.tolist():
        inside = (scored >= start) & (scored < start + width)
        if rows := int(inside.sum()):
            found.append(
                {
                    "starts_at": moment(start),
                    "rows": rows,
                    "unknown_words": float(unknown[inside].mean()),
                    "expected_accuracy": float(sure[inside].mean()),
                }
            )
    return found


def moment(microseconds: int) -> str:
    """ISO 8601 in UTC, from microseconds since 1970."""
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat()


def _judged(item: Judged) -> dict[str, Any]:
    return {
        **asdict(item.finding),
        "adjusted_p_value": item.adjusted_p_value,
        "is_drift": item.is_drift,
    }


def _shapes(reference: ReviewRows, window: ReviewRows) -> dict[str, Any]:
    """Shares by bin of both sides, the reference in the window's mix."""
    weights = Strata(reference).weights(window)
    longest = float(np.quantile(np.concatenate([reference.lengths, window.lengths]), 0.99))
    lengths = np.linspace(0, max(1.0, longest), _BINS + 1)
    sure = np.linspace(1 / max(2, len(reference.classes)), 1, _BINS + 1)
    return {
        "text length": _histogram(reference.lengths, window.lengths, weights, lengths),
        "confidence": _histogram(reference.confidence, window.confidence, weights, sure),
        "classes": _bars(reference.labels, window.labels, weights, reference.classes),
        "languages": _bars(languages(reference.texts), languages(window.texts), weights, LANGUAGES),
    }


def _histogram(one: Any, other: Any, weights: Floats, edges: Floats) -> dict[str, Any]:
    last = len(edges) - 2
    bins = [np.clip(np.searchsorted(edges, side, side="right") - 1, 0, last) for side in (one, other)]
    return {
        "edges": [float(edge) for edge in edges],
        "reference": np.bincount(bins[0], weights, last + 1).tolist(),
        "window": (np.bincount(bins[1], minlength=last + 1) / len(other)).tolist(),
    }


def _bars(one: Integers, other: Integers, weights: Floats, names: Sequence[str]) -> dict[str, Any]:
    """Only categories that one side has; rows of none are left out."""
    count = len(names)
    before = np.bincount(one[one >= 0], weights[one >= 0], count)
    after = np.bincount(other[other >= 0], minlength=count).astype(np.float64)
    before, after = before / max(1e-300, before.sum()), after / max(1e-300, after.sum())
    kept = np.flatnonzero((before > 0) | (after > 0)).tolist()
    return {
        "names": [names[place] for place in kept],
        "reference": before[kept].tolist(),
        "window": after[kept].tolist(),
    }
