"""Statistics of labelled rows before training. Pure."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from trainer.data.dataset import LabelledRow
from trainer.data.near_duplicates import duplicate_groups, words


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counts and lengths of a file's rows.

    Attributes:
        rows: How many rows there are.
        classes: Of these, how many of each class.
        word_quantiles: Words of a text at 0, 25, 50, 75, 95 and 100 %.
        duplicates: Rows that say nearly what an earlier one says.
        contradictions: Groups of near-duplicates whose rows have different labels.
    """

    rows: int
    classes: Mapping[str, int]
    word_quantiles: tuple[int, ...]
    duplicates: int
    contradictions: int


class Doubt(NamedTuple):
    """A warning about rows that can be used.

    Attributes:
        place: The row or the files.
        reason: What is doubted.
    """

    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)


def statistics(
    rows: Sequence[tuple[LabelledRow, int]], names: Sequence[str], groups: Sequence[int]
) -> Statistics:
    """Counts and lengths of rows."""
    counts = Counter(label for _, label in rows)
    lengths = np.array([len(words(row.text)) for row, _ in rows] or [0])
    return Statistics(
        len(rows),
        {name: counts.get(index, 0) for index, name in enumerate(names)},
        tuple(int(length) for length in np.quantile(lengths, QUANTILES, method="nearest")),
        len(rows) - len(set(groups)),
        len(contradictions(rows, groups)),
    )


def contradictions(rows: Sequence[tuple[LabelledRow, int]], groups: Sequence[int]) -> list[Doubt]:
    """Rows that say nearly what an earlier one says, and are labelled differently."""
    first: dict[int, tuple[LabelledRow, int]] = {}
    found = []
    for (row, label), group in zip(rows, groups, strict=True):
        earlier, its_label = first.setdefault(group, (row, label))
        if label != its_label:
            found.append(Doubt(row.place, f"nearly the text of {earlier.place}, with another label"))
    return found


def straddling(files: Sequence[tuple[str, Sequence[str]]]) -> list[Doubt]:
    """Texts that stand nearly alike in more than one file: what is tested was seen in training."""
    names = [name for name, texts in files for _ in texts]
    groups = duplicate_groups([text for _, texts in files for text in texts])
    holders: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for name, group in zip(names, groups, strict=True):
        holders[group][name] += 1
    pairs = Counter(tuple(sorted(counts)) for counts in holders.values() if len(counts) > 1)
    return [
        Doubt(" and ".join(pair), f"{count} text(s) stand nearly alike in each")
        for pair, count in sorted(pairs.items())
    ]
