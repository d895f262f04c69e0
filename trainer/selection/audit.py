"""The audit slice: reviews drawn by chance alone, spread evenly over time, and never trained on.

What they say of accuracy holds for the whole stream; no choice by uncertainty can say that. Near-duplicates
stay in and age does not matter here: both would bend the truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reviews.errors import WrongUse
from reviews.slices import SliceShares, slice_of
from trainer.selection.choice import Choice, ranked_choices
from trainer.selection.draws import stratified_draw
from trainer.selection.pool import Integers

AUDIT_STRATEGY = "audit"
DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class AuditCandidates:
    """Current reviews of a window of time, without an answer and in no queue.

    Attributes:
        records: int64 (rows): the records' numbers, each once.
        review_ids: As many: they decide the slice.
        published_at: int64 (rows): seconds since 1970.

    Raises:
        WrongUse: If the columns differ in length.
    """

    records: Integers
    review_ids: Sequence[str]
    published_at: Integers

    def __post_init__(self) -> None:
        if not len(self.records) == len(self.review_ids) == len(self.published_at):
            raise WrongUse("The columns of audit candidates differ in length: read them from one table.")


def audit_choices(
    candidates: AuditCandidates, count: int, shares: SliceShares, seed: int, bucket_seconds: int = DAY_SECONDS
) -> list[Choice]:
    """As many audit items of each day, drawn at random; fewer where there are no more.

    A day with too few items leaves its places to the others. An estimate for several days therefore weighs
    each day by its reviews, not by its audit items.

    Args:
        candidates: Those of other slices are left out.
        count: How many.
        shares: How large the slices are.
        seed: The same seed and candidates give the same choice.
        bucket_seconds: The length of a "day", counted from 1970 on.
    """
    of_slice = [slice_of(review_id, shares) == "audit" for review_id in candidates.review_ids]
    rows = np.flatnonzero(of_slice)
    days = candidates.published_at[rows] // bucket_seconds
    drawn = stratified_draw(days, np.ones(len(rows)), count, np.random.default_rng(seed))
    return ranked_choices(candidates.records[rows[drawn]], "audit", AUDIT_STRATEGY)
