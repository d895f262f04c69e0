"""The audit's draw: reviews are drawn with known chances, those of probably rare labels more often.

Audit reviews are drawn by chance and never trained on: what they say of accuracy holds for the whole
stream. There, near-duplicates stay and age does not matter, since leaving them out would bias the estimate.
A stream in which nine reviews of ten are positive would show few others, so that most of the draw gives
each label as many places: the rarer ones in proportion to their probabilities, and the most frequent one, of
which there are plenty, where the prediction is doubtful. Each review keeps the weight that undoes it. The
weight is of one draw: what one draw left over has fewer rare labels than the stream, so a review is a
candidate once (:func:`storage.learning.pool.read_audit_pool`). Horvitz, Thompson: A generalization of
sampling without replacement from a finite universe (JASA 1952); Neyman: On the two different aspects of the
representative method (JRSS 1934), for places in proportion to the standard deviation; Zrnic, Candès: Active
Statistical Inference (ICML 2024), for draws by a model's doubt.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reviews.errors import WrongUse
from reviews.slices import SliceShares, slice_of
from trainer.selection.choice import QueueChoice, ranked_choices
from trainer.selection.pool import Floats, Indices, Integers

AUDIT_STRATEGY = "audit"
_SHARPENED = 2
"""Power of the probabilities: a review that is surely of a rare label is drawn more often than several that
might be. Chosen on simulated audits of other streams than those that are reported."""
_ALWAYS_DOUBTED = 0.01
"""Variance of the surest prediction's being right: no probability is believed beyond 0.99."""


@dataclass(frozen=True, slots=True)
class AuditCandidates:
    """Current reviews without an answer and in no queue, none of which was a candidate of an earlier draw.

    Attributes:
        records: int64 (rows): the records' numbers, each once.
        review_ids: As many: they decide the slice.
        probabilities: float64 (rows, labels): as they are stored, 0 for labels that an adapter does not know.

    Raises:
        WrongUse: If the columns differ in length.
    """

    records: Integers
    review_ids: Sequence[str]
    probabilities: Floats

    def __post_init__(self) -> None:
        columns = (self.records, self.review_ids, self.probabilities)
        if len({len(column) for column in columns}) != 1:
            raise WrongUse("The columns of audit candidates differ in length: read them from one table.")


def audit_choices(
    candidates: AuditCandidates,
    count: int,
    shares: SliceShares,
    seed: int,
    *,
    even_share: float = 1.0,
) -> list[QueueChoice]:
    """Audit items, drawn at random with the chances of :func:`draw_chances`; fewer where there are no more.

    An estimate for several draws has to weigh each by its reviews, not by its audit items. The items'
    priorities are in random order, so that those that people answer first are as random as all of them.

    Candidates of other slices are left out. The same seed and candidates give the same choice.

    Args:
        candidates: Of all slices.
        count: How many are wanted.
        shares: How large the audit slice is.
        seed: Of the draw.
        even_share: Share of the draw that is even over all reviews, in (0, 1]; the rest is even over the
            labels.
    """
    of_slice = [slice_of(review_id, shares) == "audit" for review_id in candidates.review_ids]
    rows = np.flatnonzero(of_slice)
    wanted = min(count, len(rows))
    if not wanted:
        return []
    probabilities = candidates.probabilities[rows]
    chances, weights = draw_chances(probabilities, wanted, even_share)
    random = np.random.default_rng(seed)
    order = np.lexsort((random.random(len(rows)), probabilities.argmax(axis=1)))
    drawn = random.permutation(order[systematic_draw(chances[order], wanted, random.random())])
    chosen = ranked_choices(candidates.records[rows[drawn]], "audit", AUDIT_STRATEGY)
    return [
        one._replace(draw_weight=float(weight)) for one, weight in zip(chosen, weights[drawn], strict=True)
    ]


def draw_chances(probabilities: Floats, count: int, even_share: float) -> tuple[Floats, Floats]:
    """Each row's chance to be drawn, and the weight that makes drawn rows speak for all.

    An even draw gives each review the same chance. Of that draw ``even_share`` is kept; the other places are
    dealt evenly to the labels. Those of a rarer label go to the reviews in proportion to the square of its
    probability. Those of the most frequent one go to where accuracy is decided: in proportion to the standard
    deviation of whether the prediction is right, which makes the variance of the share of right ones least.
    No chance is greater than 1: what a review cannot take goes to the others.

    Args:
        probabilities: float64 (rows, labels).
        count: So many are drawn; at most as many as there are rows.
        even_share: In (0, 1].

    Returns:
        float64 (rows): chances, which sum to ``count``; and float64 (rows) in (0, 1]: an even draw's chance
        over the own one, the greatest being 1.
    """
    sought = _sought(probabilities)
    usual = sought.mean(axis=0)  # (labels)
    known = usual > 0
    is_known = sought[:, known].any(axis=1)  # the others are of an adapter with other labels
    times = np.ones(len(sought))
    times[is_known] = (sought[is_known][:, known] / usual[known]).mean(axis=1)
    more_often = even_share + (1 - even_share) * times
    chances = _in_proportion(more_often, count)
    weights = chances.min() / chances
    return chances, np.where(np.isclose(weights, 1), 1.0, weights)


def _sought(probabilities: Floats) -> Floats:
    """float64 (rows, labels): in proportion to what each label's places are dealt to the rows."""
    sought = probabilities**_SHARPENED
    best = probabilities.max(axis=1)
    doubt = np.sqrt(best * (1 - best) + _ALWAYS_DOUBTED)
    sought[:, probabilities.sum(axis=0).argmax()] = np.where(best > 0, doubt, 0.0)
    return np.asarray(sought)


def _in_proportion(sizes: Floats, total: int) -> Floats:
    """float64 (rows): in proportion to sizes, none over 1, summing to a total of at most as many as rows."""
    chances, free = np.ones(len(sizes)), np.ones(len(sizes), np.bool_)
    while free.any():
        scaled = sizes * (total - np.count_nonzero(~free)) / sizes[free].sum()
        over = free & (scaled > 1)
        chances[free] = scaled[free]
        if not over.any():
            break
        chances[over] = 1.0
        free &= ~over
    return chances


def systematic_draw(chances: Floats, count: int, start: float) -> Indices:
    """int64 (count), rising: rows drawn with exactly these chances, spread over the order that they are in.

    Chances are laid end to end, and the rows are taken that points at a distance of 1 fall on. Madow: On the
    theory of systematic sampling, II (Annals of Mathematical Statistics 1949).

    Args:
        chances: float64 (rows), none over 1, summing to ``count``.
        count: How many.
        start: The first point, uniform in [0, 1).
    """
    ends = chances.cumsum()
    points = start + np.arange(count)
    # The last row ends where the sum does, whatever is rounded.
    return np.searchsorted(ends[:-1] * (count / ends[-1]), points, side="right").astype(np.int64)
