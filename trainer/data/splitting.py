"""Stratified splits into training, validation and test rows; near-duplicates stay together. Pure."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import zip_longest

import numpy as np

SPLITS = ("train", "val", "test")
SHARES = (0.8, 0.1, 0.1)


def stratified_split(
    labels: Sequence[int], groups: Sequence[int], seed: int = 0, shares: Sequence[float] = SHARES
) -> list[int]:
    """The split of each row, the same for the same seed.

    Groups are dealt out, the greatest first and those of one size in an order drawn from the seed, each to
    the split that lacks most of its classes. A row alone is a group of one: they come last and, dealt out
    class by class, level out what the greater groups left uneven.

    Args:
        labels: Class of each row.
        groups: Group of each row; a group is never divided.
        seed: Decides who goes where.
        shares: Of the rows, for each split; they sum to 1.

    Returns:
        Index into ``shares`` for each row.
    """
    members: defaultdict[int, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        members[group].append(row)
    totals = Counter(labels)
    lacking = [{label: share * count for label, count in totals.items()} for share in shares]
    result = [0] * len(labels)
    for rows in _order(list(members.values()), labels, seed):
        counts = Counter(labels[row] for row in rows)
        # Who takes most of what it lacks; of equals, who lacks most for its size.
        scores = [
            (
                round(sum(min(count, lack[label]) for label, count in counts.items()), 9),
                round(sum(lack.values()) / share, 9),
            )
            for lack, share in zip(lacking, shares, strict=True)
        ]
        chosen = scores.index(max(scores))
        for row in rows:
            result[row] = chosen
            lacking[chosen][labels[row]] -= 1
    return result


def _order(groups: list[list[int]], labels: Sequence[int], seed: int) -> list[list[int]]:
    """Groups from great to small; single rows in turns of the classes."""
    random = np.random.default_rng(seed)
    shuffled = [groups[index] for index in random.permutation(len(groups))]
    several = sorted((rows for rows in shuffled if len(rows) > 1), key=len, reverse=True)
    alone: defaultdict[int, list[list[int]]] = defaultdict(list)
    for rows in shuffled:
        if len(rows) == 1:
            alone[labels[rows[0]]].append(rows)
    turns = zip_longest(*(alone[label] for label in sorted(alone)))
    return several + [rows for turn in turns for rows in turn if rows is not None]
