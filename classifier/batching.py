"""Which texts go through the model together: similar lengths, within a budget of tokens. Pure."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


def padded_batches(lengths: npt.NDArray[np.int64], budget_tokens: int) -> Iterator[Indices]:
    """Batches of texts sorted by length, so that padding each to its longest costs little.

    The longest come first: memory that suffices for the first batch suffices for all.

    Args:
        lengths: int64 (texts), tokens of each text.
        budget_tokens: Most tokens in a batch, padding included; a longer text goes alone.

    Yields:
        int64 (texts of the batch): indices into ``lengths``; each index comes once over all batches.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        longest = max(1, int(lengths[order[start]]))
        end = start + max(1, budget_tokens // longest)
        yield order[start:end]
        start = end
