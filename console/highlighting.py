"""Words that speak for a label: the log-odds of each word with a prior, among scored reviews.

Monroe, Colaresi, Quinn: Fightin' Words (Political Analysis 2008): the share of all reviews that have the word
is the prior, so that rare words do not win by chance, and a word counts by how many standard deviations its
log-odds are from none. Here a review has a word or not, however often.
"""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import islice

from drift.words import words

MOST_WORDS = 60
_SHORTEST_WORD = 3
_LEAST_DEVIATIONS = 2.5
_PRIOR_TEXTS = 20


def telling_words(texts: Sequence[str], labels: Sequence[str]) -> dict[str, list[str]]:
    """For each label the words that speak for it, the strongest first, at most 60.

    Args:
        texts: Of reviews.
        labels: The label of each.
    """
    texts_of = Counter(labels)
    if len(texts_of) < 2:
        return {label: [] for label in texts_of}
    having: dict[str, Counter[str]] = {label: Counter() for label in texts_of}
    for text, label in zip(texts, labels, strict=True):
        having[label].update(set(words(text)))
    everywhere = sum(having.values(), Counter[str]())
    return {
        label: _strongest(having[label], everywhere, count, len(texts)) for label, count in texts_of.items()
    }


def _strongest(having: Counter[str], everywhere: Counter[str], count: int, all_count: int) -> list[str]:
    """The words that surely more texts of one label have than of the others.

    Args:
        having: How many texts of the label have each word.
        everywhere: How many texts of all labels.
        count: How many texts the label has.
        all_count: How many there are.
    """
    scores = {}
    for word, number in having.items():
        prior = _PRIOR_TEXTS * everywhere[word] / all_count
        others = everywhere[word] - number
        gain = _log_odds(number + prior, count + _PRIOR_TEXTS)
        gain -= _log_odds(others + prior, all_count - count + _PRIOR_TEXTS)
        scores[word] = gain / math.sqrt(1 / (number + prior) + 1 / (others + prior))
    ranked = sorted(scores, key=lambda word: (-scores[word], word))
    strong = (word for word in ranked if scores[word] >= _LEAST_DEVIATIONS and len(word) >= _SHORTEST_WORD)
    return list(islice(strong, MOST_WORDS))


def _log_odds(count: float, total: float) -> float:
    return math.log(count / (total - count + 1))  # one more: every text may have the word
