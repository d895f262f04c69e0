"""Are the texts' vectors of one distribution? The maximum mean discrepancy, with a permutation test.

Gretton, Borgwardt, Rasch, Schölkopf, Smola: A Kernel Two-Sample Test (JMLR 2012).
"""

from typing import Any

import numpy as np

from drift.finding import Finding
from drift.representation import Vectors
from drift.rows import Floats

_ROWS = 500
_PERMUTATIONS = 1_999
_FLOOR = 0.1


def mean_discrepancy(vectors: Vectors, seed: int = 0) -> Finding:
    """The root of the unbiased squared discrepancy, under a Gaussian kernel as wide as the median distance.

    Args:
        vectors: Both sides; 500 of each are looked at.
        seed: Of choice and permutations.
    """
    random = np.random.default_rng(seed)
    one, other = (_some(side, random) for side in (vectors.reference, vectors.window))
    kernel = _kernel(one, other)
    size, rows = one.shape[0], len(kernel)
    sides = np.tile(np.arange(rows) < size, (_PERMUTATIONS + 1, 1)).astype(np.float64)
    sides[1:] = random.permuted(sides[1:], axis=1)
    found = _unbiased(kernel, sides)
    p_value = float((found >= found[0]).mean())  # the sides as they are count as one of the permutations
    root = float(max(0.0, found[0]) ** 0.5)
    chance = float(np.quantile(found[1:], 0.95))
    return Finding(
        f"mean discrepancy ({vectors.kind})",
        "texts",
        root,
        _FLOOR,
        p_value,
        max(0.0, chance) ** 0.5,
        root,
        "discrepancy; reference: 95 % of chance",
    )


def _kernel(one: Any, other: Any) -> Floats:
    """float64 (rows, rows): Gaussian similarities of all rows, which have length 1; the diagonal is 0."""
    squares = 2 - 2 * np.block([[_products(a, b) for b in (one, other)] for a in (one, other)])
    width = max(1e-12, float(np.median(squares[np.triu_indices(len(squares), 1)])))
    kernel = np.exp(-squares / width)
    np.fill_diagonal(kernel, 0.0)
    return np.asarray(kernel)


def _unbiased(kernel: Floats, sides: Floats) -> Floats:
    """float64 (permutations): MMD²_u, equation (3) of the paper, for each way to take sides.

    Args:
        kernel: float64 (rows, rows), diagonal 0.
        sides: float64 (permutations, rows): 1 for a row of the first side, 0 for the second.
    """
    to_first = sides @ kernel  # (permutations, rows)
    of_first = (to_first * sides).sum(axis=1)
    across = to_first.sum(axis=1) - of_first
    of_second = kernel.sum() - of_first - 2 * across
    first = sides.sum(axis=1)
    second = kernel.shape[0] - first
    return np.asarray(
        of_first / (first * (first - 1)) + of_second / (second * (second - 1)) - 2 * across / (first * second)
    )


def _some(side: Any, random: np.random.Generator) -> Any:
    count = side.shape[0]
    return side[np.sort(random.choice(count, min(_ROWS, count), replace=False))]


def _products(one: Any, other: Any) -> Floats:
    found = one @ other.T
    return np.asarray(found.toarray() if hasattr(found, "toarray") else found, np.float64)
