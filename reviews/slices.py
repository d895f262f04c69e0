"""The data slice of a review (audit, test, validation, train), from a hash of its id.

A review that is published again, or labelled years later, stays in its slice: nothing that was tested or
audited on is ever trained on.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal

Slice = Literal["audit", "test", "validation", "train"]
"""``audit``: a random part of the stream, labelled for the unbiased truth. The others divide the rest."""


@dataclass(frozen=True, slots=True)
class SliceShares:
    """How large the slices are.

    Attributes:
        audit: Share of all reviews, in [0, 1].
        test: Share of the others.
        validation: Share of the others.
    """

    audit: float = 0.05
    test: float = 0.2
    validation: float = 0.15


def hash_position(review_id: str, draw: str = "slice") -> float:
    """A number in [0, 1) that depends on the id and the draw alone, evenly spread over ids.

    Args:
        review_id: The publisher's id.
        draw: What is drawn for; positions of different draws know nothing of each other.
    """
    salted = f"reviewloop {draw}\0{review_id}".encode("utf-8", "surrogatepass")
    digest = hashlib.sha256(salted).digest()
    return int.from_bytes(digest[:7], "big") / (1 << 56)


def slice_of(review_id: str, shares: SliceShares) -> Slice:
    """The slice of a review, by its id alone."""
    position = hash_position(review_id)
    if position < shares.audit:
        return "audit"
    position = (position - shares.audit) / (1 - shares.audit)
    if position < shares.test:
        return "test"
    return "validation" if position < shares.test + shares.validation else "train"
