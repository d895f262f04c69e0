"""Blocks of texts of nearly the same length, so that attention takes few batched products instead of many."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_STEP_TOKENS = 16
_Lengths = TypeVar("_Lengths", int, npt.NDArray[np.int64])


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbours in a packed batch, as if each had the same length.

    What stands behind the end of a shorter text is another text's, and ``real`` is 0 there.

    Attributes:
        texts: How many.
        length: Tokens of the longest, rounded up: oneDNN keeps what it compiles for each length it meets.
        start: Position of its first token in the batch.
        end: Position behind its last token.
        spread: int64 (3 x texts x heads x length): rows of a batch's queries, keys and values seen as
            (tokens x 3 x heads, head), in the order (3, texts, heads, length).
        real: bf16 (texts, 1, length, 1): 1 where the text has a token, else 0.
        gathered: int64 (tokens x heads): rows of a result in the order (texts, heads, length), seen as
            (texts x heads x length, head), in the order of the batch.
    """

    texts: int
    length: int
    start: int
    end: int
    spread: Tensor
    real: Tensor
    gathered: Tensor


def blocks_of(lengths: npt.NDArray[np.int64], heads: int, first: int) -> tuple[Block, ...]:
    """The texts from the one at ``first`` on, in blocks.

    Args:
        lengths: int64 (texts), tokens of each text of the batch, longest first.
        heads: Attention heads.
        first: Index of the first text that goes into a block.
    """
    starts = np.cumsum(lengths) - lengths
    return tuple(_block(lengths[part], starts[part], heads) for part in _alike(lengths, first))


def _alike(lengths: npt.NDArray[np.int64], first: int) -> Iterator[slice]:
    """Neighbours whose lengths, rounded up to a multiple of some tokens, are the same."""
    changes = np.flatnonzero(np.diff(_steps(lengths[first:]))) + 1
    bounds = [first, *(first + changes).tolist(), len(lengths)]
    for start, end in pairwise(bounds):
        if end > start:
            yield slice(start, end)


def _steps(lengths: _Lengths) -> _Lengths:
    return -(-lengths // _STEP_TOKENS)


def _block(lengths: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], heads: int) -> Block:
    texts, length, tokens = len(lengths), _steps(int(lengths[0])) * _STEP_TOKENS, int(lengths.sum())
    start = int(starts[0])
    head, place = np.arange(heads), np.arange(length)
    rows = np.minimum(starts[:, None] + place, start + tokens - 1)  # (texts, length)
    which = np.arange(3)[:, None, None, None]
    spread = (rows[:, None, :] * 3 + which) * heads + head[:, None]  # (3, texts, heads, length)
    real = place < lengths[:, None]
    text = np.repeat(np.arange(texts), lengths)
    within = np.arange(tokens) - np.repeat(starts - start, lengths)
    gathered = (text[:, None] * heads + head) * length + within[:, None]  # (tokens, heads)
    return Block(
        texts,
        length,
        start,
        start + tokens,
        torch.from_numpy(spread.ravel()),
        torch.from_numpy(real).to(torch.bfloat16).view(texts, 1, length, 1),
        torch.from_numpy(gathered.ravel()),
    )
