"""Do people use other words, or the same ones more often?"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from drift.divergence import jensen_shannon_distance
from drift.finding import Finding
from drift.pair import Pair
from drift.words import words

_FLOOR = 0.2
_WORDS = 1_000
_ROWS = 1_500
_PERMUTATIONS = 1_999


def vocabulary(pair: Pair) -> Finding:
    """The Jensen-Shannon distance of word counts over the most frequent words, in [0, 1], beyond chance.

    Words of one text come together, so chance is found by shuffling whole reviews between the sides: Good:
    Permutation Tests (2000). The distance of small samples is never 0; its mean over the shuffles is taken
    off.
    """
    one, other = pair.samples(_ROWS)
    texts = [pair.reference.texts[row] for row in one] + [pair.window.texts[row] for row in other]
    counts = word_counts(texts, most_frequent(texts, _WORDS))
    found = _distance(counts[: len(one)], counts[len(one) :])
    shuffled = _shuffled(counts, len(one), pair.seed)
    p_value = (1 + (shuffled >= found).sum()) / (1 + len(shuffled))
    by_chance = float(shuffled.mean())
    effect = max(0.0, found**2 - by_chance**2) ** 0.5
    return Finding(
        "vocabulary", "texts", effect, _FLOOR, float(p_value), by_chance, found, "distance, 0 to 1"
    )


def most_frequent(texts: Sequence[str], most: int) -> dict[str, int]:
    """The words that most texts have, numbered by how many have them."""
    counts = Counter(word for text in texts for word in set(words(text)))
    return {word: number for number, (word, _) in enumerate(counts.most_common(most))}


def word_counts(texts: Sequence[str], columns: dict[str, int]) -> npt.NDArray[np.float32]:
    """float32 (texts, words): how often each text has each word."""
    counts = np.zeros((len(texts), max(1, len(columns))), np.float32)
    for row, text in enumerate(texts):
        for word in words(text):
            if (column := columns.get(word)) is not None:
                counts[row, column] += 1
    return counts


def _distance(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    return jensen_shannon_distance(one.sum(axis=0, dtype=np.float64), other.sum(axis=0, dtype=np.float64))


def _shuffled(counts: npt.NDArray[np.float32], size: int, seed: int) -> npt.NDArray[np.float64]:
    random = np.random.default_rng(seed)
    first = (np.arange(len(counts)) < size).astype(np.float32)
    sides = random.permuted(np.tile(first, (_PERMUTATIONS, 1)), axis=1)
    ones = (sides @ counts).astype(np.float64)
    whole = counts.sum(axis=0, dtype=np.float64)
    return np.array([jensen_shannon_distance(one, whole - one) for one in ones])
