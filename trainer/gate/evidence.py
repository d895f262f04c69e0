"""What the gate looks at: both adapters' answers to the same labelled rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from reviews.errors import WrongUse

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Evidence:
    """Both adapters' answers to the same frozen test and audit rows.

    Attributes:
        truth: int64 (rows), indexes into ``labels``: the consensus of people.
        active: float64 (rows, labels), calibrated probabilities of the adapter that serves, rows sum to 1;
            None where none serves (cold start).
        candidate: The same of the adapter that wants to.
        labels: Names of the labels.
        is_audit: bool (rows): drawn at random from the stream, not by the queue's strategy.
        groups: For ``product``, ``source``, ``length`` and ``month`` (or any other name) the value of each
            row; '' where it has none.
        weights: float64 (rows), how many reviews of the stream a row speaks for, up to a common factor;
            None: each the same.

    Raises:
        WrongUse: If the shapes do not fit each other or a truth is no label.
    """

    truth: Integers
    active: Floats | None
    candidate: Floats
    labels: tuple[str, ...]
    is_audit: Booleans
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    weights: Floats | None = None

    def __post_init__(self) -> None:
        rows, shape = len(self.truth), (len(self.truth), len(self.labels))
        sizes = {"is_audit": self.is_audit, "weights": self.weights, **self.groups}
        wrong = [name for name, values in sizes.items() if values is not None and len(values) != rows]
        answers = {"active": self.active, "candidate": self.candidate}
        wrong += [name for name, said in answers.items() if said is not None and said.shape != shape]
        if wrong:
            raise WrongUse(
                f"The evidence for the gate has {rows} rows and {len(self.labels)} labels, but "
                f"{', '.join(wrong)} does not: both adapters must answer the same rows."
            )
        if rows and not (self.truth.min() >= 0 and self.truth.max() < len(self.labels)):
            raise WrongUse(f"The evidence for the gate has a truth outside of its {len(self.labels)} labels.")

    @property
    def row_weights(self) -> Floats:
        """float64 (rows), mean 1."""
        if self.weights is None or not len(self.truth):
            return np.ones(len(self.truth))
        return np.asarray(self.weights / self.weights.mean())
