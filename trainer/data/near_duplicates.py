"""Near-duplicates of texts: an exact set-similarity join on their pairs of words. Pure.

Two texts are near-duplicates when the Jaccard similarity of their sets of neighbouring words reaches a
threshold. All pairs are found without comparing all pairs, by prefix filtering: order every set from its
rarest member on; two sets of similarity t share at least one of their first ``size - ceil(t * size) + 1``
members, and rare pairs of words stand in few texts. Unlike MinHash it misses no pair of texts.

Bayardo, Ma, Srikant: Scaling Up All Pairs Similarity Search (WWW 2007).
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from scipy.cluster.hierarchy import DisjointSet

WordPair = tuple[str, str]

# Chinese and Japanese are written without spaces: there a character is a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")
_EDGE = ""

# One changed word in eight, or a fifth of the text added.
THRESHOLD = 0.6


def duplicate_groups(texts: Sequence[str], threshold: float = THRESHOLD) -> list[int]:
    """The group of each text, named by its first: near-duplicates, directly or through others, share one."""
    first: dict[tuple[str, ...], int] = {}
    alike = [first.setdefault(words(text), index) for index, text in enumerate(texts)]
    distinct = list(first.values())
    groups = DisjointSet(distinct)
    for one, other in _similar_pairs([word_pairs(text) for text in first], threshold):
        groups.merge(distinct[one], distinct[other])
    names: dict[int, int] = {}  # of each group's root: its first text
    return [names.setdefault(groups[index], index) for index in alike]


def words(text: str) -> tuple[str, ...]:
    """The words of a text without case and punctuation; a text of nothing else is one word."""
    return tuple(_WORD.findall(text.casefold())) or (text.strip(),)


def word_pairs(text: Sequence[str]) -> frozenset[WordPair]:
    """The neighbouring words of a text, its edges included: one more than there are words, at most."""
    return frozenset(pairwise((_EDGE, *text, _EDGE)))


def jaccard(one: frozenset[Any], other: frozenset[Any]) -> float:
    """Shared members over all members, in [0, 1]."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


def _similar_pairs(sets: Sequence[frozenset[WordPair]], threshold: float) -> list[tuple[int, int]]:
    """Every two positions whose sets reach the threshold."""
    ranked, holders = _by_rarity(sets), defaultdict[int, list[int]](list)
    found: list[tuple[int, int]] = []
    for position, members in enumerate(ranked):
        prefix = len(members) - math.ceil(threshold * len(members) - 1e-9) + 1
        candidates: set[int] = set()
        for member in sorted(members)[:prefix]:
            candidates.update(holders[member])
            holders[member].append(position)
        found += [
            (candidate, position)
            for candidate in candidates
            if _sizes_allow(len(ranked[candidate]), len(members), threshold)
            and jaccard(ranked[candidate], members) >= threshold
        ]
    return found


def _by_rarity(sets: Sequence[frozenset[WordPair]]) -> list[frozenset[int]]:
    """The same sets with numbers for members: the rarer, the smaller."""
    frequency = Counter(member for members in sets for member in members)
    order = sorted(frequency, key=lambda member: (frequency[member], member))
    rank = {member: number for number, member in enumerate(order)}
    return [frozenset(rank[member] for member in members) for members in sets]


def _sizes_allow(one: int, other: int, threshold: float) -> bool:
    """Whether sets of these sizes can reach the threshold at all."""
    return min(one, other) >= threshold * max(one, other) - 1e-9
