"""Tokenised texts: what goes from the tokeniser to an engine."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of several texts, one after another. A text is one row, or several windows.

    Attributes:
        ids: int32 (tokens), special tokens included.
        starts: int64 (rows + 1); row ``i`` is ``ids[starts[i]:starts[i + 1]]``.
        owners: int64 (rows): the text of each row, rising; each text has at least one row.
        truncated: bool (texts): whether the model sees only a part of the text.
    """

    ids: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    owners: npt.NDArray[np.int64]
    truncated: npt.NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        rows: Sequence[Sequence[int]],
        owners: npt.NDArray[np.int64] | None = None,
        truncated: npt.NDArray[np.bool_] | None = None,
    ) -> "Encoded":
        """From lists of ids; without owners and marks, each row is a whole text of its own."""
        starts = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, rows), np.int64, len(rows)), out=starts[1:])
        ids = np.empty(int(starts[-1]), np.int32)
        for index, row in enumerate(rows):
            ids[starts[index] : starts[index + 1]] = row
        return cls(
            ids,
            starts,
            np.arange(len(rows)) if owners is None else owners,
            np.zeros(len(rows), np.bool_) if truncated is None else truncated,
        )

    def __len__(self) -> int:
        return len(self.truncated)

    @property
    def tokens(self) -> int:
        """How many tokens the model gets."""
        return len(self.ids)

    @property
    def row_lengths(self) -> npt.NDArray[np.int64]:
        """int64 (rows): the tokens of each row."""
        return np.diff(self.starts)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """int64 (texts): the tokens that the model reads for each text, over all its windows."""
        return np.bincount(self.owners, self.row_lengths, len(self)).astype(np.int64)

    def row(self, index: int) -> npt.NDArray[np.int32]:
        """int32 (tokens): the ids of one row."""
        return self.ids[self.starts[index] : self.starts[index + 1]]

    def rows(self) -> list[npt.NDArray[np.int32]]:
        """int32 (tokens) each: the ids of all rows, views of ``ids``."""
        return [self.row(index) for index in range(len(self.owners))]

    def select(self, texts: Sequence[int]) -> "Encoded":
        """The encoding of some of the texts, as if these alone had been tokenised.

        Args:
            texts: Their indices, rising.
        """
        chosen = np.zeros(len(self), np.bool_)
        chosen[list(texts)] = True
        rows = np.flatnonzero(chosen[self.owners])
        starts = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(self.row_lengths[rows], out=starts[1:])
        ids = np.concatenate([self.row(int(row)) for row in rows]) if len(rows) else self.ids[:0]
        owners = np.cumsum(chosen)[self.owners[rows]] - 1
        return Encoded(ids, starts, owners.astype(np.int64), self.truncated[chosen])

    def text(self, index: int) -> npt.NDArray[np.int32]:
        """int32 (tokens): the ids of one text's first row, which is all of it unless it has windows."""
        return self.row(int(np.searchsorted(self.owners, index)))
