"""Attention over texts that lie one after another without padding; no text sees another."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

_LONGEST_BY_PRODUCTS = 256
_SCORES_AT_ONCE = 600_000  # per thread: in bf16 they just fit into a core's cache
_ONES = 8  # columns of ones; one would do, but eight keep rows aligned


@dataclass(frozen=True, slots=True)
class Groups:
    """Where texts of equal length lie in a packed batch, longest first.

    Attributes:
        runs: (length in tokens, number of texts) for each distinct length, in the order of the batch.
        starts: int64 (texts): position of each text's first token.
        bounds: int32 (texts + 1): the same with the end, on the batch's device.
    """

    runs: tuple[tuple[int, int], ...]
    starts: Tensor
    bounds: Tensor


def attend_all(qkv: Tensor, groups: Groups, heads: int, *, by_products: bool = False) -> Tensor:
    """Every token looks at every token of its own text.

    Args:
        qkv: (tokens, 3 x hidden): queries, already scaled, keys and values of one batch.
        groups: Where the texts lie.
        heads: Attention heads; hidden is a multiple of it.
        by_products: Whether texts of moderate length take :func:`attend_by_products`.

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
    start = 0
    for length, texts in groups.runs:
        end = start + length * texts
        apart = qkv[start:end].view(texts, length, 3, heads, hidden // heads)
        place = result[start:end].view(texts, length, heads, hidden // heads)
        if by_products and length <= _LONGEST_BY_PRODUCTS:
            attend_by_products(apart, place)
        else:
            q, k, v = apart.permute(2, 0, 3, 1, 4)  # (texts, heads, length, head) each
            place.copy_(scaled_dot_product_attention(q, k, v, scale=1.0).transpose(1, 2))
        start = end
    if start < len(qkv):  # rows that only round the batch up
        result[start:] = 0
    return result


def attend_by_products(qkv: Tensor, place: Tensor) -> None:
    """Attention by two batched matrix products, twice as fast in bf16 on a CPU as the fused kernel.

    The fused kernel calls one small product per head and 32 queries; here oneDNN sees all texts and heads at
    once. Softmax costs one pass: exponentials without the usual shift, and a column of ones beside the
    values, whose product is their sum. Scores round to bf16 on the way, and beyond 88 they overflow into an
    answer that is no number, which is asked for again in fp32.

    Args:
        qkv: (texts, length, 3, heads, head), bf16, the queries already scaled.
        place: (texts, length, heads, head), where the result goes.
    """
    texts, length, _, heads, size = qkv.shape
    at_once = max(1, _SCORES_AT_ONCE * torch.get_num_threads() // (heads * length * length))
    for start in range(0, texts, at_once):
        part = qkv[start : start + at_once].permute(2, 0, 3, 1, 4)  # (3, texts, heads, length, head)
        q, k = part[:2].contiguous().view(2, -1, length, size)
        v = torch.ones((*part.shape[1:4], size + _ONES), dtype=qkv.dtype)
        v[..., :size] = part[2]
        weights = torch.bmm(q, k.transpose(1, 2)).exp_()  # (texts x heads, length, length)
        sums = torch.bmm(weights, v.view(-1, length, size + _ONES)).view(v.shape).transpose(1, 2)
        torch.div(sums[..., :size], sums[..., size : size + 1], out=place[start : start + at_once])


def attend_first(query: Tensor, kv: Tensor, groups: Groups, heads: int) -> Tensor:
    """The first token of each text looks at every token of its text: all that a classifier reads of a layer.

    Args:
        query: (texts, hidden), the queries of the first tokens, already scaled.
        kv: (tokens, 2 x hidden): keys and values.
        groups: Where the texts lie.
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
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn
