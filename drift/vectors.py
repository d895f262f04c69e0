"""Texts as vectors, and two tests on them.

Vectors are the classifier's own embeddings where they were kept, else hashed words. Are those of both sides
of one distribution? Gretton, Borgwardt, Rasch, Schölkopf, Smola: A Kernel Two-Sample Test (JMLR 2012). Can a
classifier tell one side from the other, and by what? Lopez-Paz, Oquab: Revisiting Classifier Two-Sample Tests
(ICLR 2017).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import vstack

from drift.rows import Floats, Integers
from drift.strata import Pair
from drift.verdict import Finding
from drift.words import words

_LEAST_EMBEDDED = 200
_HASHED_WORDS = 2**14
_DISCREPANCY_ROWS = 500
_PERMUTATIONS = 1_999
_DISCREPANCY_FLOOR = 0.1
_SEPARATION_FLOOR = 0.05
_HALVES = 2
_INVERSE_STRENGTH = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Vectors:
    """Both sides of a pair as vectors, equally many of each.

    Attributes:
        kind: ``embeddings`` or ``words``.
        reference: float32 (rows, columns), rows of length 1; a sparse matrix for words.
        window: float32 (rows, columns), rows of length 1; a sparse matrix for words.
        reference_rows: int64 (rows): which reference rows they are, rising.
        window_rows: int64 (rows): which window rows they are, rising.
    """

    kind: str
    reference: Any
    window: Any
    reference_rows: Integers
    window_rows: Integers

    def both(self) -> Any:
        """Rows of both sides, the reference first; a sparse matrix for words."""
        sides = [self.reference, self.window]
        return np.concatenate(sides) if self.kind == "embeddings" else vstack(sides).tocsr()


def vectors(pair: Pair, most: int) -> Vectors:
    """Vectors of at most ``most`` rows of each side, the reference in the window's mix.

    Where the embeddings of at least 200 reviews of each side were kept, these: they are in the space in which
    the classifier decides. Otherwise words by their hashes, weighted by rarity.
    """
    sides = (pair.reference, pair.window)
    if min(len(side.embedded) for side in sides) >= _LEAST_EMBEDDED:
        one_side, other_side = (side.take(side.embedded) for side in sides)
        part = Pair.of(one_side, other_side, pair.seed, by_class=pair.by_class)
        one, other = part.samples(most)
        return Vectors(
            "embeddings",
            _unit(part.reference.embeddings[one]),
            _unit(part.window.embeddings[other]),
            pair.reference.embedded[one],
            pair.window.embedded[other],
        )
    one, other = pair.samples(most)
    both = hashed_words(
        [pair.reference.texts[row] for row in one] + [pair.window.texts[row] for row in other]
    )
    return Vectors("words", both[: len(one)], both[len(one) :], one, other)


def hashed_words(texts: list[str]) -> Any:
    """A sparse float32 (texts, 16384) matrix of hashed words by term frequency and rarity, rows of length 1.

    Weinberger et al.: Feature Hashing for Large Scale Multitask Learning (ICML 2009).
    """
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    hashing = HashingVectorizer(analyzer=words, n_features=_HASHED_WORDS, norm=None, dtype=np.float32)
    return TfidfTransformer(sublinear_tf=False).fit_transform(abs(hashing.transform(texts)))


def _unit(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(1e-12, lengths), np.float32)


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
        _DISCREPANCY_FLOOR,
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
    return side[np.sort(random.choice(count, min(_DISCREPANCY_ROWS, count), replace=False))]


def _products(one: Any, other: Any) -> Floats:
    found = one @ other.T
    return np.asarray(found.toarray() if hasattr(found, "toarray") else found, np.float64)


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
    """Logistic regression on one half of the rows predicts the side of each row of the other half.

    Each half is a test of its own; the p-value is the lesser of both, doubled (Bonferroni).

    Args:
        vectors: Both sides, equally many rows of each.
        seed: Of the halves.
    """
    rows = vectors.both()
    counts = (vectors.reference.shape[0], vectors.window.shape[0])
    sides = np.repeat([0, 1], counts)
    from scipy.stats import binom

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
        _SEPARATION_FLOOR,
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


def _halves(count: int, seed: int) -> Integers:
    """int64 (count): 0 or 1 in random order, equally many of each."""
    return np.asarray(np.random.default_rng(seed).permutation(count) % _HALVES, np.int64)
