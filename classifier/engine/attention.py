"""Attention over texts one after another, without padding; no text sees another."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

_LONGEST_BY_PRODUCTS = 256
_STEP_TOKENS = 16
_SCORES_AT_ONCE = 600_000  # per thread: in bf16 they just fit into a core's cache
_ONES = 8  # columns of ones; one would do, but eight keep rows aligned
_Lengths = TypeVar("_Lengths", int, npt.NDArray[np.int64])


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbours in a packed batch, as if each had the same length.

    Behind the end of a shorter text come tokens of another one, and ``real`` is 0 there.

    Attributes:
        texts: How many.
        length: Tokens of the longest, rounded up: oneDNN keeps what it compiles for each length it meets.
        start: Position of its first token in the batch.
        end: Position behind its last token.
        spread: int64 (3 x texts x heads x length): rows of a batch's queries, keys and values seen as
            (tokens x 3 x heads, head), in the order (3, texts, heads, length).
        real: (texts, 1, length, 1), in the batch's number format: 1 where the text has a token, else 0.
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


@dataclass(frozen=True, slots=True)
class Groups:
    """Where texts of equal length are in a packed batch, longest first.

    Attributes:
        runs: (length in tokens, number of texts) for each distinct length, in the order of the batch.
        starts: int64 (texts): position of each text's first token.
        bounds: int32 (texts + 1): the same with the end, on the batch's device.
        blocks: The texts that take :func:`attend_by_products`; none, or all from some text on.
    """

    runs: tuple[tuple[int, int], ...]
    starts: Tensor
    bounds: Tensor
    blocks: tuple[Block, ...] = ()


def group(
    lengths: npt.NDArray[np.int64], bounds: Tensor, heads: int, *, by_products: torch.dtype | None = None
) -> Groups:
    """The texts of a packed batch by their lengths.

    Args:
        lengths: int64 (texts), tokens of each text, longest first.
        bounds: int64 (texts + 1), on the batch's device: position of each text's first token, and the end.
        heads: Attention heads.
        by_products: The number format in which texts of moderate length take :func:`attend_by_products`;
            None: they do not.
    """
    blocks: tuple[Block, ...] = ()
    if by_products is not None:
        first = int(np.count_nonzero(lengths > _LONGEST_BY_PRODUCTS))
        blocks = blocks_of(lengths, heads, first, by_products)
    return Groups(_runs(lengths), bounds[:-1], bounds.to(torch.int32), blocks)


def attend_all(qkv: Tensor, groups: Groups, heads: int) -> Tensor:
    """Every token looks at every token of its own text.

    Args:
        qkv: (tokens, 3 x hidden): queries, already scaled, keys and values of one batch.
        groups: Where the texts are.
        heads: Attention heads; hidden is a multiple of it.

    Returns:
        (tokens, hidden).
    """
    hidden = qkv.shape[1] // 3
    varlen = variable_length_attention() if qkv.is_cuda and qkv.dtype != torch.float32 else None
    if varlen is not None:
        q, k, v = qkv.view(len(qkv), 3, heads, hidden // heads).unbind(1)  # (tokens, heads, head)
        longest = groups.runs[0][0]
        attended: Tensor = varlen(q, k, v, groups.bounds, groups.bounds, longest, longest, scale=1.0)
        return attended.reshape(len(qkv), hidden)
    result = qkv.new_empty((len(qkv), hidden))
    first_block = groups.blocks[0].start if groups.blocks else len(qkv)
    start = 0
    for length, texts in groups.runs:
        if start == first_block:
            break
        end = start + length * texts
        q, k, v = qkv[start:end].view(texts, length, 3, heads, hidden // heads).permute(2, 0, 3, 1, 4)
        place = result[start:end].view(texts, length, heads, hidden // heads)
        place.copy_(scaled_dot_product_attention(q, k, v, scale=1.0).transpose(1, 2))
        start = end
    for block in groups.blocks:
        attend_by_products(qkv, block, heads, result[block.start : block.end])
        start = block.end
    if start < len(qkv):  # rows that only round the batch up
        result[start:] = 0
    return result


def attend_by_products(qkv: Tensor, block: Block, heads: int, place: Tensor) -> None:
    """Attention by two batched matrix products, twice as fast in bf16 on a CPU as the fused kernel.

    The fused kernel calls one small product per head and 32 queries; here oneDNN sees all heads of all texts
    of a block at once. Softmax costs one pass: exponentials without the usual shift, and a column of ones
    beside the values, whose product is their sum. Values and ones are 0 behind the end of a text, so what
    fills it up there counts for nothing. Scores round to bf16 on the way, and beyond 88 they overflow into
    non-finite logits, which are computed again in fp32.

    Args:
        qkv: (tokens, 3 x hidden), bf16 or fp32, the queries already scaled, of the whole batch.
        block: Which texts.
        heads: Attention heads.
        place: (tokens of the block, hidden), where the result goes.
    """
    size, products, length = place.shape[1] // heads, block.texts * heads, block.length
    apart = qkv.view(-1, size).index_select(0, block.spread).view(3, products, length, size)
    values = apart[2].view(block.texts, heads, length, size)
    v = torch.empty((block.texts, heads, length, size + _ONES), dtype=qkv.dtype)
    torch.mul(values, block.real, out=v[..., :size])
    v[..., size:] = block.real
    v = v.view(products, length, size + _ONES)
    result = torch.empty((products, length, size), dtype=qkv.dtype)
    at_once = max(1, _SCORES_AT_ONCE * torch.get_num_threads() // (heads * length * length)) * heads
    for start in range(0, products, at_once):
        part = slice(start, start + at_once)
        weights = torch.bmm(apart[0, part], apart[1, part].transpose(1, 2)).exp_()  # (part, length, length)
        sums = torch.bmm(weights, v[part])
        torch.div(sums[..., :size], sums[..., size : size + 1], out=result[part])
    torch.index_select(result.view(-1, size), 0, block.gathered, out=place.view(-1, size))


def attend_first(query: Tensor, kv: Tensor, groups: Groups, heads: int) -> Tensor:
    """The first token of each text looks at every token of its text: all that a classifier reads of a layer.

    Args:
        query: (texts, hidden), the queries of the first tokens, already scaled.
        kv: (tokens, 2 x hidden): keys and values.
        groups: Where the texts are.
        heads: Attention heads.

    Returns:
        (texts, hidden).
    """
    hidden = query.shape[1]
    result = torch.empty_like(query)
    start = first = 0
    for length, texts in groups.runs:
        end, last = start + length * texts, first + texts
        k, v = kv[start:end].view(texts, length, 2, heads, hidden // heads).permute(2, 0, 3, 1, 4)
        q = (
            query[first:last].view(texts, 1, heads, hidden // heads).transpose(1, 2)
        )  # (texts, heads, 1, head)
        result[first:last] = (
            scaled_dot_product_attention(q, k, v, scale=1.0).transpose(1, 2).reshape(texts, hidden)
        )
        start, first = end, last
    return result


@lru_cache(maxsize=1)
def variable_length_attention() -> Callable[..., Any] | None:
    """PyTorch's attention over packed sequences for CUDA, where this build has it."""
    try:
        from torch.nn.attention.varlen import varlen_attn  # noqa: PLC0415  newer builds have it
    except ImportError:
        return None
    return varlen_attn


def _runs(lengths: npt.NDArray[np.int64]) -> tuple[tuple[int, int], ...]:
    """(length, how many) for each run of equal neighbours."""
    changes = np.flatnonzero(np.diff(lengths)) + 1
    starts = np.concatenate([[0], changes, [len(lengths)]])
    return tuple((int(lengths[start]), int(end - start)) for start, end in pairwise(starts))


def blocks_of(
    lengths: npt.NDArray[np.int64], heads: int, first: int, dtype: torch.dtype = torch.bfloat16
) -> tuple[Block, ...]:
    """The texts from the one at ``first`` on, in blocks.

    Args:
        lengths: int64 (texts), tokens of each text of the batch, longest first.
        heads: Attention heads.
        first: Index of the first text that goes into a block.
        dtype: Number format of queries, keys and values.
    """
    starts = np.cumsum(lengths) - lengths
    return tuple(_block(lengths[part], starts[part], heads, dtype) for part in _alike(lengths, first))


def _alike(lengths: npt.NDArray[np.int64], first: int) -> Iterator[slice]:
    """Neighbours whose lengths, rounded up to a multiple of some tokens, are the same."""
    changes = np.flatnonzero(np.diff(_steps(lengths[first:]))) + 1
    bounds = [first, *(first + changes).tolist(), len(lengths)]
    for start, end in pairwise(bounds):
        if end > start:
            yield slice(start, end)


def _steps(lengths: _Lengths) -> _Lengths:
    return -(-lengths // _STEP_TOKENS)


def _block(
    lengths: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], heads: int, dtype: torch.dtype
) -> Block:
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
        torch.from_numpy(real).to(dtype).view(texts, 1, length, 1),
        torch.from_numpy(gathered.ravel()),
    )
