"""Texts as vectors: the classifier's own embeddings where they were kept, else hashed words."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from drift.pair import Pair
from drift.rows import Integers
from drift.words import words

_LEAST_EMBEDDED = 200
_HASHED_WORDS = 2**14


@dataclass(frozen=True, slots=True, eq=False)
class Vectors:
    """Both sides of a pair as vectors, as many of one as of the other.

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


def vectors(pair: Pair, most: int) -> Vectors:
    """Vectors of at most so many rows of each side, the reference in the window's mix.

    Where the embeddings of at least 200 reviews of each side were kept, these; they lie in the space in which
    the classifier decides. Otherwise words by their hashes, weighted by rarity.
    """
    sides = (pair.reference, pair.window)
    if min(len(side.embedded) for side in sides) >= _LEAST_EMBEDDED:
        part = _embedded_part(pair)
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


def _embedded_part(pair: Pair) -> Pair:
    reference, window = (side.take(side.embedded) for side in (pair.reference, pair.window))
    return Pair.of(reference, window, pair.seed, by_class=pair.by_class)


def _unit(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(1e-12, lengths), np.float32)
