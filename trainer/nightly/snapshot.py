"""The frozen dataset of a night: which record is on which side, with which label and weight. Pure."""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reviews.label import LabelledReview
from reviews.slices import Slice, SliceShares, slice_of
from reviews.training_run import TrainingItem
from trainer.dataset import Dataset
from trainer.near_duplicates import duplicate_groups

HELD_OUT: tuple[Slice, ...] = ("test", "audit")
"""Never trained on, nor chosen by: what the gate judges by."""
LEFT_OUT = ("other_label", "copy_of_held_out", "copy_of_validation")
"""Why a labelled record is not taken."""
SLICES: tuple[Slice, ...] = ("train", "validation", *HELD_OUT)


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled record.

    Attributes:
        review: The record and its consensus.
        slice: Where it belongs, by its review's id.
        label: Index of its class.
        weight: How much it counts in training; 1 where nothing is trained on.
        is_new: Whether the active adapter was never trained on it.
        group: The same for rows that say nearly the same.
    """

    review: LabelledReview
    slice: Slice
    label: int
    weight: float
    is_new: bool
    group: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a night works on, whatever is labelled meanwhile.

    Attributes:
        names: The classes, in order.
        rows: In order of records.
        left_out: How many rows were not taken, by reason.
    """

    names: tuple[str, ...]
    rows: tuple[Row, ...]
    left_out: Mapping[str, int]

    def of(self, *slices: Slice) -> tuple[Row, ...]:
        """The rows of some slices, in order of records."""
        return tuple(row for row in self.rows if row.slice in slices)

    def classes(self, *slices: Slice) -> dict[str, int]:
        """How many rows of some slices each class has, by name."""
        counts = Counter(row.label for row in self.of(*slices))
        return {name: counts.get(index, 0) for index, name in enumerate(self.names)}

    def items(self) -> list[TrainingItem]:
        """The rows as they are stored."""
        return [
            TrainingItem(row.review.record, row.slice, self.names[row.label], row.weight) for row in self.rows
        ]

    def manifest(self, shares: SliceShares, seed: int) -> dict[str, Any]:
        """What the snapshot is, ready for JSON; the records themselves are the run's training items."""
        return {
            "labels": list(self.names),
            "rows": {name: len(self.of(name)) for name in SLICES},
            "classes": {name: self.classes(name) for name in SLICES},
            "sha256": {name: sha256_of(self.of(name), self.names) for name in SLICES},
            "new_train_rows": sum(row.is_new for row in self.of("train")),
            "left_out": dict(self.left_out),
            "shares": {"audit": shares.audit, "test": shares.test, "validation": shares.validation},
            "seed": seed,
        }


def freeze(
    reviews: Iterable[LabelledReview],
    names: Sequence[str],
    shares: SliceShares,
    weight_of: Callable[[LabelledReview, bool], float],
    trained_on: Collection[int],
) -> Snapshot:
    """Put every labelled record on its side.

    A row that says nearly the same as one that is held out (see :mod:`trainer.near_duplicates`) is neither
    trained on nor chosen by, and one that says nearly the same as a validation row is not trained on: an
    adapter that learned it by heart would know the other's label. The versions of a review share its side.

    Args:
        reviews: Records with a consensus; of an edited review the old record keeps its label.
        names: The classes, in order; records with other labels are left out.
        shares: How large the slices are.
        weight_of: The weight of a training row, from its record and whether it is new.
        trained_on: Records that the active adapter was trained on.
    """
    taken = sorted(reviews, key=lambda review: review.record)
    index_of = {name: index for index, name in enumerate(names)}
    known = [(review, slice_of(review.review_id, shares)) for review in taken if review.label in index_of]
    groups = duplicate_groups([review.text for review, _ in known])
    held_out = {group for group, (_, side) in zip(groups, known, strict=True) if side in HELD_OUT}
    chosen_by = {group for group, (_, side) in zip(groups, known, strict=True) if side == "validation"}
    rows, left_out = list[Row](), Counter(other_label=len(taken) - len(known))
    for group, (review, side) in zip(groups, known, strict=True):
        if side not in HELD_OUT and group in held_out:
            left_out["copy_of_held_out"] += 1
        elif side == "train" and group in chosen_by:
            left_out["copy_of_validation"] += 1
        else:
            is_new = review.record not in trained_on
            weight = weight_of(review, is_new) if side == "train" else 1.0
            rows.append(Row(review, side, index_of[review.label], weight, is_new, group))
    return Snapshot(tuple(names), tuple(rows), {reason: left_out[reason] for reason in LEFT_OUT})


def dataset(rows: Sequence[Row], names: Sequence[str], *, weighted: bool = False) -> Dataset:
    """Rows as the fitting takes them."""
    return Dataset(
        tuple(row.review.text for row in rows),
        tuple(row.label for row in rows),
        tuple(names),
        sha256_of(rows, names),
        tuple(row.weight for row in rows) if weighted else None,
    )


def sha256_of(rows: Iterable[Row], names: Sequence[str]) -> str:
    """A hash of records, texts, labels and weights, in order."""
    digest = hashlib.sha256()
    for row in rows:
        text = hashlib.sha256(row.review.text.encode("utf-8", "surrogatepass")).hexdigest()
        digest.update(f"{row.review.record} {text} {row.weight!r} {names[row.label]}\n".encode())
    return digest.hexdigest()
