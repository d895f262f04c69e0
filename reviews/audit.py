"""Reviews of the audit slice with their human labels, and what two adapters say of the same ones."""

from typing import NamedTuple


class AuditRow(NamedTuple):
    """One labelled review of the audit slice.

    Attributes:
        record: The review.
        text: What to score where an adapter's answer is missing.
        label: What people agree on.
        active: The serving adapter's probabilities in its order of labels; None: it never scored this one.
        previous: The same of the adapter before it.
    """

    record: int
    text: str
    label: str
    active: tuple[float, ...] | None
    previous: tuple[float, ...] | None
