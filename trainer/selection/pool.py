"""The candidates for labelling, column by column; how uncertain the model was of each; what a strategy is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reviews.errors import WrongUse

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Integers = npt.NDArray[np.int64]
TextsOf = Callable[[Integers], Sequence[str]]
"""The texts of the given records, in their order: looked up for the few that matter, not kept for all."""

NOT_EMBEDDED = -1


@dataclass(frozen=True, slots=True)
class Pool:
    """Candidates: current reviews without an answer and in no queue, none of them of the audit slice.

    Attributes:
        records: int64 (rows): the records' numbers, each once.
        probabilities: float32 (rows, labels): finite, rows sum to 1.
        published_at: int64 (rows): seconds since 1970.
        embeddings: float16 (rows with one, hidden), of one adapter; None where none were read.
        embedding_of: int64 (rows): a row's place in ``embeddings``, or -1; None where none were read.
        texts_of: Finds the texts of records, to tell near-duplicates; None where texts cannot be had.
        weights: float64 (rows), positive: how much each row counts, such as for being recent; None: all
            the same. :func:`trainer.selection.choice.choose` sets them.
        characters: int64 (rows): the lengths of the texts; None where length does not matter.

    Raises:
        WrongUse: If the columns do not fit each other, or a probability or weight is not a finite number.
    """

    records: Integers
    probabilities: npt.NDArray[np.float32]
    published_at: Integers
    embeddings: npt.NDArray[np.float16] | None = None
    embedding_of: Integers | None = None
    texts_of: TextsOf | None = None
    weights: Floats | None = None
    characters: Integers | None = None

    def __post_init__(self) -> None:
        rows = len(self.records)
        columns = (
            self.probabilities, self.published_at, self.embedding_of, self.weights, self.characters,
        )  # fmt: skip
        if any(len(column) != rows for column in columns if column is not None):
            raise WrongUse(
                f"The columns of a pool of {rows} rows are not all {rows} long: build it from one table."
            )
        if self.probabilities.ndim != 2 or self.probabilities.shape[1] < 1:
            raise WrongUse(
                "A pool's probabilities need two dimensions, rows and labels, with a label at least."
            )
        if (self.embeddings is None) != (self.embedding_of is None):
            raise WrongUse("A pool with embeddings needs embedding_of as well, and none without.")
        if not np.isfinite(self.probabilities).all():
            raise WrongUse(
                f"Record {self._first_broken()} has a probability that is not finite: score it again."
            )
        if self.weights is not None and not (np.isfinite(self.weights) & (self.weights > 0)).all():
            raise WrongUse("A pool's weights must be positive, finite numbers.")

    def __len__(self) -> int:
        return len(self.records)

    @property
    def counting(self) -> Floats:
        """float64 (rows): the weights, 1 for each row where there are none."""
        return np.ones(len(self)) if self.weights is None else self.weights

    def _first_broken(self) -> int:
        return int(self.records[~np.isfinite(self.probabilities).all(axis=1)][0])


Strategy = Callable[[Pool, int, np.random.Generator], Indices]
"""Pool, how many, randomness → positions in the pool, int64 (min(how many, rows)), best first, each once."""


def margin_uncertainty(pool: Pool) -> Floats:
    """float64 (rows) in [0, 1]: 1 less the margin between the two most probable labels.

    With a single label there is nothing to confuse: 0.
    """
    if pool.probabilities.shape[1] < 2:
        return np.zeros(len(pool))
    top_two = np.partition(pool.probabilities, -2, axis=1)[:, -2:].astype(np.float64)
    return np.clip(1 - (top_two[:, 1] - top_two[:, 0]), 0, 1)


def entropy_uncertainty(pool: Pool) -> Floats:
    """float64 (rows) in [0, 1]: Shannon entropy over the greatest possible; 0 with a single label."""
    labels = pool.probabilities.shape[1]
    if labels < 2:
        return np.zeros(len(pool))
    entropy = np.zeros(len(pool))
    for column in pool.probabilities.T:  # column by column: no second table of a million rows
        shares = np.clip(column.astype(np.float64), np.finfo(np.float64).tiny, 1)
        entropy -= shares * np.log(shares)
    return np.asarray(np.clip(entropy / np.log(labels), 0, 1))
