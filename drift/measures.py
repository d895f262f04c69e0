"""Do people write longer or shorter texts?"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from drift.divergence import (
    homogeneity_p_value,
    jensen_shannon_distance,
    kolmogorov_smirnov,
    population_stability_index,
)
from drift.strata import Pair
from drift.verdict import Finding
from drift.words import LANGUAGES, KnownWords, languages, words

_FLOOR = 0.1


def text_length(pair: Pair) -> Finding:
    """The Kolmogorov-Smirnov statistic of characters a text, in [0, 1]."""
    one, other = (side.lengths.astype(np.float64) for side in (pair.reference, pair.window))
    statistic, p_value = kolmogorov_smirnov(one, other, pair.weights)
    mean = float((one * pair.weights).sum())
    return Finding(
        "text length", "texts", statistic, _FLOOR, p_value, mean, float(other.mean()), "characters, mean"
    )


def language_share(pair: Pair) -> Finding:
    """The Jensen-Shannon distance of languages, in [0, 1], and each side's share of the commonest one."""
    count = len(LANGUAGES) + 1  # the last one for texts of no language
    one = pair.reference_counts(languages(pair.reference.texts) % count, count)[:-1]
    other = np.bincount(languages(pair.window.texts) % count, minlength=count)[:-1].astype(np.float64)
    common = int(one.argmax())
    return Finding(
        "languages",
        "texts",
        jensen_shannon_distance(one, other),
        _FLOOR,
        homogeneity_p_value(one, other),
        float(one[common] / max(1e-300, one.sum())),
        float(other[common] / max(1e-300, other.sum())),
        f"share of {LANGUAGES[common]}",
    )


def unknown_words(pair: Pair) -> Finding:
    """The Kolmogorov-Smirnov statistic of the share of unknown words, in [0, 1].

    Each reference text is held against the words of all the others, so that it is as strange to them as a
    text of a window without drift.
    """
    vocabulary = KnownWords(pair.reference.texts)
    one = vocabulary.unknown_shares(pair.reference.texts, of_reference=True).astype(np.float64)
    other = vocabulary.unknown_shares(pair.window.texts).astype(np.float64)
    statistic, p_value = kolmogorov_smirnov(one, other, pair.weights)
    return Finding(
        "unknown words",
        "texts",
        statistic,
        _FLOOR,
        p_value,
        float((one * pair.weights).sum()),
        float(other.mean()),
        "share of words",
    )


_VOCABULARY_FLOOR = 0.2
_VOCABULARY_WORDS = 1_000
_VOCABULARY_ROWS = 1_500
_PERMUTATIONS = 1_999


def vocabulary(pair: Pair) -> Finding:
    """The Jensen-Shannon distance of word counts over the most frequent words, in [0, 1], beyond chance.

    Words of one text come together, so chance is found by shuffling whole reviews between the sides: Good:
    Permutation Tests (2000). The distance of small samples is never 0; its mean over the shuffles is taken
    off.
    """
    one, other = pair.samples(_VOCABULARY_ROWS)
    texts = [pair.reference.texts[row] for row in one] + [pair.window.texts[row] for row in other]
    counts = word_counts(texts, most_frequent(texts, _VOCABULARY_WORDS))
    found = _distance(counts[: len(one)], counts[len(one) :])
    shuffled = _shuffled(counts, len(one), pair.seed)
    p_value = (1 + (shuffled >= found).sum()) / (1 + len(shuffled))
    by_chance = float(shuffled.mean())
    effect = max(0.0, found**2 - by_chance**2) ** 0.5
    return Finding(
        "vocabulary", "texts", effect, _VOCABULARY_FLOOR, float(p_value), by_chance, found, "distance, 0 to 1"
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


MEASURE = "class shares"
SHARE_OF = "share of "
"""What the unit begins with; the class that moved most follows."""


def class_shares(pair: Pair) -> Finding:
    """The population stability index of the most probable classes, in nats, and the class that moved most."""
    count = len(pair.reference.classes)
    one = pair.reference_counts(pair.reference.labels, count)
    other = np.bincount(pair.window.labels, minlength=count).astype(np.float64)
    before, after = one / one.sum(), other / other.sum()
    moved = int(np.abs(after - before).argmax())
    return Finding(
        MEASURE,
        "classes",
        population_stability_index(one, other),
        _FLOOR,
        homogeneity_p_value(one, other),
        float(before[moved]),
        float(after[moved]),
        f"{SHARE_OF}{pair.reference.classes[moved]}",
    )


def confidence(pair: Pair) -> Finding:
    """The Kolmogorov-Smirnov statistic of the probability of the most probable class, in [0, 1]."""
    one, other = pair.reference.confidence, pair.window.confidence
    statistic, p_value = kolmogorov_smirnov(one, other, pair.weights)
    mean = float((one * pair.weights).sum())
    return Finding("confidence", "confidence", statistic, _FLOOR, p_value, mean, float(other.mean()), "mean")
