"""Batches of rows with similar lengths, within a token budget that shrinks when memory is exhausted.

A plan takes the lengths of texts, int64 (texts), and the most tokens of a batch; a longer text goes alone. It
yields batches as indices into the lengths, int64 (texts of the batch), the longest first: memory that
suffices for the first batch suffices for all.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import structlog
import torch

from classifier.engine import EngineOutput, Row

Lengths = npt.NDArray[np.int64]
Indices = npt.NDArray[np.int64]
Plan = Callable[[Lengths, int], Iterator[Indices]]
"""Lengths and a budget of tokens to batches of indices; each index comes once over all batches."""


def padded_batches(lengths: Lengths, budget_tokens: int) -> Iterator[Indices]:
    """Batches of texts sorted by length, so that padding, which the budget includes, costs little."""
    order = longest_first(lengths)
    start = 0
    while start < len(order):
        longest = max(1, int(lengths[order[start]]))
        end = start + max(1, budget_tokens // longest)
        yield order[start:end]
        start = end


def packed_batches(lengths: Lengths, budget_tokens: int) -> Iterator[Indices]:
    """Batches for an engine without padding: sorted by length, so that equal lengths are neighbours."""
    order = longest_first(lengths)
    ends = np.cumsum(lengths[order])
    start, before = 0, 0
    while start < len(order):
        end = max(start + 1, int(np.searchsorted(ends, before + budget_tokens, side="right")))
        yield order[start:end]
        start, before = end, int(ends[end - 1])


def equal_batches(lengths: Lengths, budget_tokens: int) -> Iterator[Indices]:
    """Batches for a model whose answers padding changes: texts of one length."""
    order = longest_first(lengths)
    for run in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        if len(run):
            size = max(1, budget_tokens // max(1, int(lengths[run[0]])))
            yield from (run[start : start + size] for start in range(0, len(run), size))


def single_batches(lengths: Lengths, budget_tokens: int) -> Iterator[Indices]:
    """Each text alone, for a model that takes no two together; it has no budget."""
    del budget_tokens
    yield from longest_first(lengths)[:, None]


def longest_first(lengths: Lengths) -> Indices:
    """int64 (texts): the indices by falling length; equal lengths keep their order."""
    return np.argsort(-lengths, kind="stable")


log = structlog.get_logger()

Forward = Callable[[Sequence[Row], bool], tuple[torch.Tensor, torch.Tensor | None]]
"""Rows, and whether to embed: logits (rows, labels) and embeddings (rows, hidden), on any device."""
_Done = tuple[Indices, torch.Tensor, torch.Tensor | None]
"""The rows of one batch, with their logits and embeddings."""

_RECOVER_AFTER = 64
_LEAST_TOKENS = 16


class TokenBudget:
    """How many tokens go through at once: halved when memory ends, doubled again after a quiet while.

    Args:
        limit: The budget to begin with, never exceeded.
        recover_after: Forward passes without trouble before a doubling is tried.
    """

    def __init__(self, limit: int, recover_after: int = _RECOVER_AFTER) -> None:
        self._limit = limit
        self._recover_after = recover_after
        self._quiet = 0
        self.tokens = limit

    def shrink(self) -> bool:
        """Halve the budget; False if it is as small as it gets."""
        self._quiet = 0
        if self.tokens <= _LEAST_TOKENS:
            return False
        self.tokens = max(_LEAST_TOKENS, self.tokens // 2)
        return True

    def went_well(self) -> None:
        """Count a forward pass that fitted."""
        if self.tokens == self._limit:
            return
        self._quiet += 1
        if self._quiet >= self._recover_after:
            self._quiet, self.tokens = 0, min(self._limit, self.tokens * 2)


def answer_within(
    budget: TokenBudget, plan: Plan, forward: Forward, rows: Sequence[Row], *, embed: bool
) -> EngineOutput:
    """The answers to all rows, in their order, batch by batch within the budget.

    Args:
        budget: Shared by all calls of one engine, so that what was learned stays.
        plan: How rows become batches.
        forward: One pass.
        rows: int32 (tokens) each; at least one row.
        embed: Whether to return embeddings.

    Raises:
        torch.OutOfMemoryError: If a single row does not fit.
    """
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    waiting = np.arange(len(rows))
    done: list[_Done] = []
    while len(waiting):
        try:
            for batch in plan(lengths[waiting], budget.tokens):
                chosen = waiting[batch]
                done.append((chosen, *forward([rows[index] for index in chosen], embed)))
                budget.went_well()
            break
        except (torch.OutOfMemoryError, RuntimeError) as err:
            if not _is_out_of_memory(err) or not budget.shrink():
                raise
            log.warning("out_of_memory", batch_tokens=budget.tokens)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        answered = np.concatenate([part[0] for part in done]) if done else np.empty(0, np.int64)
        waiting = np.setdiff1d(waiting, answered)
    return _in_order(done, len(rows))


def _in_order(done: Sequence[_Done], count: int) -> EngineOutput:
    """One copy from the device for all batches, then everything back at its place."""
    places = np.concatenate([part[0] for part in done])
    logits = torch.cat([part[1] for part in done]).float().cpu().numpy()
    ordered = np.empty((count, logits.shape[1]), np.float32)
    ordered[places] = logits
    states = [part[2] for part in done if part[2] is not None]
    if not states:
        return EngineOutput(ordered)
    found = torch.cat(states).float().cpu().numpy()
    embeddings = np.empty((count, found.shape[1]), np.float32)
    embeddings[places] = found
    return EngineOutput(ordered, embeddings)


def _is_out_of_memory(err: Exception) -> bool:
    """The CPU's allocator raises a plain RuntimeError."""
    return isinstance(err, torch.OutOfMemoryError) or "can't allocate memory" in str(err)
