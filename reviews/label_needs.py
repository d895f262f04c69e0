"""How many more labelled reviews a purpose needs, such as to judge an adapter by."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from reviews.slices import Slice


class Lacking(NamedTuple):
    """What a purpose lacks.

    Attributes:
        more: So many labelled reviews in all.
        classes: So many of each label that has too few.
        have: So many there are.
    """

    more: int
    classes: Mapping[str, int]
    have: int


@dataclass(frozen=True, slots=True)
class LabelNeed:
    """How many labelled reviews one purpose needs.

    Attributes:
        purpose: In words: ``to judge by``.
        slices: Where its reviews are.
        rows: At least so many in all.
        each: At least so many of each label.
    """

    purpose: str
    slices: tuple[Slice, ...]
    rows: int
    each: int

    def lacking(self, counts: Mapping[str, int]) -> Lacking:
        """What it lacks.

        Args:
            counts: How many of its reviews have each label, with those that none has.
        """
        have = sum(counts.values())
        classes = {name: self.each - count for name, count in counts.items() if count < self.each}
        return Lacking(max(0, self.rows - have, sum(classes.values())), classes, have)
