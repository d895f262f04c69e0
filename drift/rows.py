"""Scored reviews as columns, the input of every measure and detector."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

UNKNOWN = -1
"""The truth of a review that nobody labelled."""

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class ReviewRows:
    """Reviews of one task and one adapter, in the order of the stream.

    Attributes:
        classes: The names of the classes, in the order of the probabilities.
        records: int64 (rows): the numbers that name them.
        scored: int64 (rows): when they were scored, microseconds since 1970 (UTC).
        published: int64 (rows): when they were published, seconds since 1970 (UTC).
        texts: The bodies.
        products: What is reviewed; None where unknown.
        sources: Where they come from; None where unknown.
        probabilities: float32 (rows, labels), calibrated as the adapter came; rows sum to 1.
        truth: int64 (rows): the class that people agreed on; -1 where there is no label.
        audited: bool (rows): whether the review is of the audit slice, which is labelled at random.
        embeddings: float32 (embedded, hidden): of some of the rows.
        embedded: int64 (embedded): the rows that they belong to, rising.
        draw_weights: float64 (rows), in (0, 1]: how much a review counts among what the audit drew; None:
            each the same.
    """

    classes: Sequence[str]
    records: Integers
    scored: Integers
    published: Integers
    texts: Sequence[str]
    products: Sequence[str | None]
    sources: Sequence[str | None]
    probabilities: npt.NDArray[np.float32]
    truth: Integers
    audited: npt.NDArray[np.bool_]
    embeddings: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    embedded: Integers = field(default_factory=lambda: np.zeros(0, np.int64))
    draw_weights: Floats | None = None

    def __len__(self) -> int:
        return len(self.records)

    @property
    def labels(self) -> Integers:
        """int64 (rows): the most probable class."""
        return np.asarray(self.probabilities.argmax(axis=1), np.int64)

    @property
    def confidence(self) -> Floats:
        """float64 (rows): the probability of that class."""
        return np.asarray(self.probabilities.max(axis=1), np.float64)

    @property
    def lengths(self) -> Integers:
        """int64 (rows): characters of each text."""
        return np.fromiter(map(len, self.texts), np.int64, len(self.texts))

    def take(self, chosen: Integers) -> "ReviewRows":
        """These rows, which have to be rising, as rows of their own."""
        place = np.full(len(self), UNKNOWN, np.int64)
        place[chosen] = np.arange(len(chosen))
        kept = place[self.embedded] >= 0
        return ReviewRows(
            self.classes,
            self.records[chosen],
            self.scored[chosen],
            self.published[chosen],
            [self.texts[row] for row in chosen],
            [self.products[row] for row in chosen],
            [self.sources[row] for row in chosen],
            self.probabilities[chosen],
            self.truth[chosen],
            self.audited[chosen],
            self.embeddings[kept],
            place[self.embedded[kept]],
            None if self.draw_weights is None else self.draw_weights[chosen],
        )
