"""The measures of one window beside its reference: each a number with a unit, a floor and a p-value.

Of texts: their length, words that the reference does not know, how often words are used, languages. Of
answers: the shares of the classes, and the confidence. Measures on vectors are in :mod:`drift.vectors`.
"""

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
from drift.rows import Floats
from drift.strata import Pair
from drift.verdict import Finding, Subject
from drift.words import LANGUAGES, KnownWords, languages, words

CLASS_SHARES = "class shares"
SHARE_OF = "share of "
"""What the unit of a share begins with; a class or a language follows."""

_FLOOR = 0.1
_VOCABULARY_FLOOR = 0.2
_VOCABULARY_WORDS = 1_000
_VOCABULARY_ROWS = 1_500
_PERMUTATIONS = 1_999


def text_length(pair: Pair) -> Finding:
    """The Kolmogorov-Smirnov statistic of characters a text, in [0, 1]."""
    one, other = (side.lengths.astype(np.float64) for side in (pair.reference, pair.window))
    return _by_distribution("text length", pair, one, other, unit="characters, mean")


def unknown_words(pair: Pair) -> Finding:
    """The Kolmogorov-Smirnov statistic of the share of unknown words, in [0, 1].

    Each reference text is held against the words of all the others, so that it is as strange to them as a
    text of a window without drift.
    """
    known = KnownWords(pair.reference.texts)
    one = known.unknown_shares(pair.reference.texts, of_reference=True).astype(np.float64)
    other = known.unknown_shares(pair.window.texts).astype(np.float64)
    return _by_distribution("unknown words", pair, one, other, unit="share of words")


def confidence(pair: Pair) -> Finding:
    """The Kolmogorov-Smirnov statistic of the probability of the most probable class, in [0, 1]."""
    one, other = pair.reference.confidence, pair.window.confidence
    return _by_distribution("confidence", pair, one, other, unit="mean", subject="confidence")


def language_share(pair: Pair) -> Finding:
    """The Jensen-Shannon distance of languages, in [0, 1], and each side's share of the commonest one."""
    count = len(LANGUAGES) + 1  # the last one for texts of no language
    one = pair.reference_counts(languages(pair.reference.texts) % count, count)[:-1]
    other = np.bincount(languages(pair.window.texts) % count, minlength=count)[:-1].astype(np.float64)
    distance = float(jensen_shannon_distance(one, other))
    return _by_shares(("languages", "texts", distance), one, other, LANGUAGES, int(one.argmax()))


def class_shares(pair: Pair) -> Finding:
    """The population stability index of the most probable classes, in nats, and the class that moved most."""
    count = len(pair.reference.classes)
    one = pair.reference_counts(pair.reference.labels, count)
    other = np.bincount(pair.window.labels, minlength=count).astype(np.float64)
    moved = int(np.abs(other / other.sum() - one / one.sum()).argmax())
    index = population_stability_index(one, other)
    return _by_shares((CLASS_SHARES, "classes", index), one, other, pair.reference.classes, moved)


def vocabulary(pair: Pair) -> Finding:
    """The Jensen-Shannon distance of word counts over the most frequent words, in [0, 1], beyond chance.

    Words of one text come together, so chance is found by shuffling whole reviews between the sides: Good:
    Permutation Tests (2000). The distance of small samples is never 0; its mean over the shuffles is taken
    off.
    """
    one, other = pair.samples(_VOCABULARY_ROWS)
    texts = [pair.reference.texts[row] for row in one] + [pair.window.texts[row] for row in other]
    counts = word_counts(texts, most_frequent(texts, _VOCABULARY_WORDS))
    sides = (side.sum(axis=0, dtype=np.float64) for side in (counts[: len(one)], counts[len(one) :]))
    found = float(jensen_shannon_distance(*sides))
    shuffled = _shuffled(counts, len(one), pair.seed)
    p_value = (1 + (shuffled >= found).sum()) / (1 + len(shuffled))
    by_chance = float(shuffled.mean())
    effect = max(0.0, found**2 - by_chance**2) ** 0.5
    return Finding(
        "vocabulary", "texts", effect, _VOCABULARY_FLOOR, float(p_value), by_chance, found,
        "distance, 0 to 1",
    )  # fmt: skip


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


def _by_distribution(
    measure: str, pair: Pair, one: Floats, other: Floats, *, unit: str, subject: Subject = "texts"
) -> Finding:
    """A finding on a number of each review, by its mean on both sides."""
    statistic, p_value = kolmogorov_smirnov(one, other, pair.weights)
    before, after = float((one * pair.weights).sum()), float(other.mean())
    return Finding(measure, subject, statistic, _FLOOR, p_value, before, after, unit)


def _by_shares(
    finding: tuple[str, Subject, float], one: Floats, other: Floats, names: Sequence[str], shown: int
) -> Finding:
    """A finding (measure, subject, effect) on counts of categories, by the share of one on both sides."""
    before, after = (float(side[shown] / max(1e-300, side.sum())) for side in (one, other))
    p_value = homogeneity_p_value(one, other)
    return Finding(*finding, _FLOOR, p_value, before, after, f"{SHARE_OF}{names[shown]}")


def _shuffled(counts: npt.NDArray[np.float32], size: int, seed: int) -> Floats:
    """float64 (permutations): the distances where reviews are dealt to the sides by chance."""
    random = np.random.default_rng(seed)
    first = (np.arange(len(counts)) < size).astype(np.float32)
    sides = random.permuted(np.tile(first, (_PERMUTATIONS, 1)), axis=1)
    ones = (sides @ counts).astype(np.float64)
    others = counts.sum(axis=0, dtype=np.float64) - ones
    return jensen_shannon_distance(ones, others)
