"""The frozen dataset of a run: each record's slice, label and weight, and whether there is enough. Pure."""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reviews.label import LabelledReview
from reviews.label_needs import LabelNeed
from reviews.slices import Slice, SliceShares, slice_of
from reviews.training_run import TrainingItem
from trainer.data.dataset import Dataset
from trainer.data.near_duplicates import duplicate_groups
from trainer.settings import GateSettings, NightlySettings

HELD_OUT: tuple[Slice, ...] = ("test", "audit")
"""Never trained on, nor chosen by: what the gate judges by."""
LEFT_OUT = ("other_label", "copy_of_held_out", "copy_of_validation", "text_gone", "models_held_out")
"""Why a labelled record is not taken."""
SLICES: tuple[Slice, ...] = ("train", "validation", *HELD_OUT)


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled record.

    Attributes:
        review: The record and its consensus.
        slice: Where it belongs, by its review's id.
        label: Index of its class.
        weight: How much it counts where it is trained on; 1 of held-out rows.
        is_new: Whether the active adapter was neither trained on it nor chosen by it.
        duplicate_group: The same for rows that say nearly the same.
    """

    review: LabelledReview
    slice: Slice
    label: int
    weight: float
    is_new: bool
    duplicate_group: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a run works on, whatever is labelled meanwhile.

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
            "train_rows_of_models": sum(row.review.by_models for row in self.of("train")),
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
    *,
    text_gone: int = 0,
) -> Snapshot:
    """Put every labelled record into its slice.

    A near-duplicate (:mod:`trainer.data.near_duplicates`) of a held-out row is neither trained on nor chosen
    by, and one of a validation row is not trained on: an adapter that learned it by heart would know the
    other's label. All versions of a review are in the same slice.

    Args:
        reviews: Records with a consensus; of an edited review the old record keeps its label. Those that only
            models answered are training rows or none.
        names: The classes, in order; records with other labels are left out.
        shares: How large the slices are.
        weight_of: The weight of a training row, from its record and whether it is new.
        trained_on: Records that the active adapter was trained on, or chosen by.
        text_gone: How many further records have a consensus, but no text any more.
    """
    given = sorted(reviews, key=lambda review: review.record)
    index_of = {name: index for index, name in enumerate(names)}
    # What only models say is no truth: neither to judge by nor to choose by.
    taken = [one for one in given if not one.by_models or slice_of(one.review_id, shares) == "train"]
    known = [(review, slice_of(review.review_id, shares)) for review in taken if review.label in index_of]
    groups = duplicate_groups([review.text for review, _ in known])
    held_out = {group for group, (_, slice_) in zip(groups, known, strict=True) if slice_ in HELD_OUT}
    chosen_by = {group for group, (_, slice_) in zip(groups, known, strict=True) if slice_ == "validation"}
    rows, left_out = list[Row](), Counter(other_label=len(taken) - len(known), text_gone=text_gone)
    left_out["models_held_out"] = len(given) - len(taken)
    for group, (review, slice_) in zip(groups, known, strict=True):
        if slice_ not in HELD_OUT and group in held_out:
            left_out["copy_of_held_out"] += 1
        elif slice_ == "train" and group in chosen_by:
            left_out["copy_of_validation"] += 1
        else:
            is_new = review.record not in trained_on
            weight = 1.0 if slice_ in HELD_OUT else weight_of(review, is_new)
            rows.append(Row(review, slice_, index_of[review.label], weight, is_new, group))
    return Snapshot(tuple(names), tuple(rows), {reason: left_out[reason] for reason in LEFT_OUT})


def weighting(settings: NightlySettings) -> Callable[[LabelledReview, bool], float]:
    """The weight of a training row, from its record and whether the active adapter never saw it."""

    def weight_of(review: LabelledReview, is_new: bool) -> float:
        weight = (settings.new_weight if is_new else 1.0) * (
            settings.model_weight if review.by_models else 1.0
        )
        is_uncertain = review.margin is not None and review.margin < settings.uncertain_margin
        return weight * (settings.uncertain_weight if is_uncertain else 1.0)

    return weight_of


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


def missing(snapshot: Snapshot, settings: NightlySettings, gate: GateSettings) -> list[str]:
    """Sentences about what has to be labelled first; none where there is enough."""
    if len(snapshot.names) < 2:
        named = " and ".join(f"'{name}'" for name in snapshot.names)
        return [f"The labels name {f'only {named}' if named else 'nothing'} so far: 2 classes are needed."]
    few = has_few_validation_rows(snapshot, settings)
    needs = label_needs(settings, gate, few_validation_rows=few)
    lacking = [said for need in needs if (said := _lacking(need, snapshot.classes(*need.slices)))]
    if not lacking:
        return []
    unmet = [need for need in needs if _lacking(need, snapshot.classes(*need.slices))]
    # People's answers come in all slices; those of models tell nothing of the mix to come.
    people = replace(snapshot, rows=tuple(row for row in snapshot.rows if not row.review.by_models))
    labels = max(_labels_until(need, people, settings.shares) for need in unmet)
    lacking.append(f"At today's mix of labels that takes about {_rounded(labels):,} more labels in all.")
    if others := snapshot.left_out.get("other_label", 0):
        lacking.append(
            f"{others:,} labelled reviews are left out: their labels are none of the task's "
            f"({', '.join(snapshot.names)})."
        )
    return lacking


def has_few_validation_rows(snapshot: Snapshot, settings: NightlySettings) -> bool:
    """Whether recipes are compared by cross-checks, and heads train on validation rows, too.

    What the active adapter was trained on compares nothing: what continues from it would seem better.
    """
    return sum(row.is_new for row in snapshot.of("validation")) < settings.enough_validation_rows


def label_needs(
    settings: NightlySettings, gate: GateSettings, *, few_validation_rows: bool = True
) -> tuple[LabelNeed, ...]:
    """What a run needs before it trains, and the gate before it judges.

    Args:
        settings: Its recipes say which rows are trained on.
        gate: What it needs.
        few_validation_rows: Whether heads train on them, too; they do until there are hundreds.
    """
    has_heads = any(recipe.kind == "head" for recipe in settings.recipes)
    learned: tuple[Slice, ...] = ("train", "validation") if has_heads and few_validation_rows else ("train",)
    return (
        LabelNeed("to train on", learned, settings.min_train_rows, settings.min_class_rows),
        LabelNeed("to choose by", ("validation",), settings.min_validation_rows, 0),
        LabelNeed("to judge by", SLICES, gate.min_rows, gate.min_class_rows),
    )


def _labels_until(need: LabelNeed, snapshot: Snapshot, shares: SliceShares) -> float:
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


def _lacking(need: LabelNeed, counts: Mapping[str, int]) -> str:
    """A sentence about one purpose; empty where nothing is missing."""
    found = need.lacking(counts)
    if not found.more:
        return ""
    classes = ", ".join(f"{count} of '{name}'" for name, count in found.classes.items())
    among = f", among them {classes}" if classes else ""
    return (
        f"{found.more} more labelled reviews are needed {need.purpose}{among}: "
        f"there are {found.have} of {need.rows}."
    )
