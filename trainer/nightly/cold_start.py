"""Whether there are enough labels to train and to judge; if not, what is missing, in numbers. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from reviews.slices import Slice, SliceShares
from trainer.gate.settings import GateSettings
from trainer.nightly.settings import NightlySettings
from trainer.nightly.snapshot import HELD_OUT, SLICES, Snapshot


@dataclass(frozen=True, slots=True)
class _Need:
    """How many labelled rows one purpose needs.

    Attributes:
        purpose: In words.
        slices: Where its rows are.
        rows: At least so many in all.
        each: At least so many of each class.
    """

    purpose: str
    slices: tuple[Slice, ...]
    rows: int
    each: int


def missing(snapshot: Snapshot, settings: NightlySettings, gate: GateSettings) -> list[str]:
    """Sentences about what has to be labelled first; none where there is enough.

    Args:
        snapshot: What is labelled.
        settings: How little is enough to train.
        gate: How little is enough to judge.
    """
    if len(snapshot.names) < 2:
        named = " and ".join(f"'{name}'" for name in snapshot.names)
        return [f"The labels name {f'only {named}' if named else 'nothing'} so far: 2 classes are needed."]
    needs = (
        _Need("to train on", ("train",), settings.min_train_rows, settings.min_class_rows),
        _Need("to choose by", ("validation",), settings.min_validation_rows, 0),
        _Need("to judge by (test and audit)", HELD_OUT, gate.min_rows, gate.min_class_rows),
    )
    lacking = [
        said
        for need in needs
        if (said := _lacking(need.purpose, snapshot.classes(*need.slices), need.rows, need.each))
    ]
    if not lacking:
        return []
    labels = max(_labels_until(need, snapshot, settings.shares) for need in needs)
    lacking.append(f"At today's mix of labels that takes about {_rounded(labels):,} more labels in all.")
    if others := snapshot.left_out.get("other_label", 0):
        lacking.append(
            f"{others:,} labelled reviews are left out: their labels are none of those that the adapter that "
            f"serves answers with ({', '.join(snapshot.names)})."
        )
    return lacking


def _labels_until(need: _Need, snapshot: Snapshot, shares: SliceShares) -> float:
    """How many more labels it takes, if they go on as they came, until a need is met.

    What came so far tells how many of a hundred labels are of a class and a slice; where little came, the
    slices' shares speak, as if one label more had been given.
    """
    total = len(snapshot.rows)
    all_counts, counts = snapshot.classes(*SLICES), snapshot.classes(*need.slices)
    share = sum(_share_of(slice_, shares) for slice_ in need.slices)
    rate = (sum(counts.values()) + share) / (total + 1)
    labels = [max(0, need.rows - sum(counts.values())) / rate]
    for name, have in counts.items():
        usual = share * (all_counts[name] + 1) / (total + len(counts))
        labels.append(max(0, need.each - have) * (total + 1) / (have + usual))
    return max(labels)


def _share_of(slice_: Slice, shares: SliceShares) -> float:
    """Share of all reviews that belong to a slice."""
    of_the_others = {
        "test": shares.test,
        "validation": shares.validation,
        "train": 1 - shares.test - shares.validation,
    }
    return shares.audit if slice_ == "audit" else (1 - shares.audit) * of_the_others[slice_]


def _rounded(labels: float) -> int:
    """Up to two digits that count, since it is an estimate."""
    unit: int = 10 ** max(0, math.floor(math.log10(max(1.0, labels))) - 1)
    return math.ceil(labels / unit) * unit


def _lacking(purpose: str, counts: Mapping[str, int], rows: int, each: int) -> str:
    """A sentence about one purpose; empty where nothing is missing."""
    have = sum(counts.values())
    few = {name: each - count for name, count in counts.items() if count < each}
    more = max(rows - have, sum(few.values()))
    if more <= 0:
        return ""
    classes = ", ".join(f"{count} of '{name}'" for name, count in few.items())
    return (
        f"{more} more labelled reviews are needed {purpose}{f', among them {classes}' if classes else ''}: "
        f"there are {have} of {rows}."
    )
