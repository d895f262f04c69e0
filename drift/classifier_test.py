"""Can a classifier tell the window from the reference? Where it can, they differ, and it says by what.

Lopez-Paz, Oquab: Revisiting Classifier Two-Sample Tests (ICLR 2017).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import vstack
from scipy.stats import binom

from drift.finding import Finding
from drift.representation import Vectors
from drift.rows import Floats, Integers

_FLOOR = 0.05
_HALVES = 2
_INVERSE_STRENGTH = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Separation:
    """The test's answer, and how new each row looks.

    Attributes:
        finding: Accuracy on rows not fitted on, less the half that guessing has.
        reference_scores: float64 (reference rows of the vectors): greater is more like the window.
        window_scores: float64 (window rows of the vectors): the same.
    """

    finding: Finding
    reference_scores: Floats
    window_scores: Floats


def classifier_test(vectors: Vectors, seed: int = 0) -> Separation:
    """Logistic regression on one half of the rows says which side each row of the other half is from.

    Each half is a test of its own; the p-value is the lesser of both, doubled (Bonferroni).

    Args:
        vectors: Both sides, as many rows of one as of the other.
        seed: Of the halves.
    """
    rows = _stacked(vectors)
    counts = (vectors.reference.shape[0], vectors.window.shape[0])
    sides = np.repeat([0, 1], counts)
    halves = np.concatenate([_halves(count, seed) for count in counts])
    scores, hits, p_values = np.zeros(len(sides)), 0, []
    for half in range(_HALVES):
        held = halves == half
        scores[held] = _fit_and_score(rows[~held], sides[~held], rows[held])
        right = int(((scores[held] > 0) == sides[held]).sum())
        hits += right
        p_values.append(float(binom.sf(right - 1, held.sum(), 0.5)))
    accuracy = hits / len(sides)
    finding = Finding(
        f"classifier test ({vectors.kind})",
        "texts",
        max(0.0, accuracy - 0.5),
        _FLOOR,
        min(1.0, _HALVES * min(p_values)),
        0.5,
        accuracy,
        "accuracy; 0.5 is guessing",
    )
    return Separation(finding, scores[sides == 0], scores[sides == 1])


def _fit_and_score(rows: Any, sides: Integers, held: Any) -> Floats:
    """float64 (held rows): log-odds of being from the window."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=_INVERSE_STRENGTH, max_iter=200).fit(rows, sides)
    return np.asarray(model.decision_function(held), np.float64)


def _stacked(vectors: Vectors) -> Any:
    """Both sides, the reference first."""
    if vectors.kind == "embeddings":
        return np.concatenate([vectors.reference, vectors.window])
    return vstack([vectors.reference, vectors.window]).tocsr()


def _halves(count: int, seed: int) -> Integers:
    """int64 (count): 0 or 1 by chance, as many of one as of the other."""
    return np.asarray(np.random.default_rng(seed).permutation(count) % _HALVES, np.int64)
