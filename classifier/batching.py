"""Which texts go through the model together: similar lengths, within a budget of tokens. Pure."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

Lengths = npt.NDArray[np.int64]
Indices = npt.NDArray[np.int64]
Plan = Callable[[Lengths, int], Iterator[Indices]]
"""Lengths and a budget of tokens to batches of indices; each index comes once over all batches."""


def padded_batches(lengths: Lengths, budget_tokens: int) -> Iterator[Indices]:
    """Batches of texts sorted by length, so that padding each to its longest costs little.

    The longest come first: memory that suffices for the first batch suffices for all.

    Args:
        lengths: int64 (texts), tokens of each text.
        budget_tokens: Most tokens in a batch, padding included; a longer text goes alone.

    Yields:
        int64 (texts of the batch): indices into ``lengths``; each index comes once over all batches.
    """
    order = longest_first(lengths)
    start = 0
    while start < len(order):
        longest = max(1, int(lengths[order[start]]))
        end = start + max(1, budget_tokens // longest)
        yield order[start:end]
        start = end


def packed_batches(lengths: Lengths, budget_tokens: int) -> Iterator[Indices]:
    """Batches for an engine without padding: sorted by length, so that equal lengths are neighbours.

    Args:
        lengths: int64 (texts), tokens of each text.
        budget_tokens: Most tokens in a batch; a longer text goes alone.

    Yields:
        int64 (texts of the batch): indices into ``lengths``, longest first.
    """
    order = longest_first(lengths)
    ends = np.cumsum(lengths[order])
    start, before = 0, 0
    while start < len(order):
        end = max(start + 1, int(np.searchsorted(ends, before + budget_tokens, side="right")))
        yield order[start:end]
        start, before = end, int(ends[end - 1])


def equal_batches(lengths: Lengths, budget_tokens: int) -> Iterator[Indices]:
    """Batches for a model whose answers padding changes: texts of one length, the longest first.

    Args:
        lengths: int64 (texts), tokens of each text.
        budget_tokens: Most tokens in a batch; a longer text goes alone.

    Yields:
        int64 (texts of the batch): indices into ``lengths``; each index comes once over all batches.
    """
    order = longest_first(lengths)
    for run in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        if len(run):
            size = max(1, budget_tokens // max(1, int(lengths[run[0]])))
            yield from (run[start : start + size] for start in range(0, len(run), size))


def single_batches(lengths: Lengths, budget_tokens: int) -> Iterator[Indices]:
    """Each text alone, the longest first, for a model that takes no two together; it has no budget."""
    del budget_tokens
    yield from longest_first(lengths)[:, None]


def longest_first(lengths: Lengths) -> Indices:
    """int64 (texts): the indices by falling length; equal lengths keep their order."""
    return np.argsort(-lengths, kind="stable")
