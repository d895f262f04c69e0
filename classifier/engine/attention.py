"""Attention over texts that lie one after another without padding; no text sees another."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


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


def attend_all(qkv: Tensor, groups: Groups, heads: int) -> Tensor:
    """Every token looks at every token of its own text.

    Args:
        qkv: (tokens, 3 x hidden): queries, keys and values of one batch.
        groups: Where the texts lie.
        heads: Attention heads; hidden is a multiple of it.

    Returns:
        (tokens, hidden).
    """
    hidden = qkv.shape[1] // 3
    varlen = variable_length_attention() if qkv.is_cuda and qkv.dtype != torch.float32 else None
    if varlen is not None:
        q, k, v = qkv[:, :, None].view(len(qkv), 3, heads, hidden // heads).unbind(1)  # (tokens, heads, head)
        longest = groups.runs[0][0]
        attended: Tensor = varlen(q, k, v, groups.bounds, groups.bounds, longest, longest)
        return attended.reshape(len(qkv), hidden)
    result = qkv.new_empty((len(qkv), hidden))
    start = 0
    for length, texts in groups.runs:
        end = start + length * texts
        q, k, v = qkv[start:end].view(texts, length, 3, heads, hidden // heads).permute(2, 0, 3, 1, 4)
        attended = scaled_dot_product_attention(q, k, v)  # (texts, heads, length, head)
        result[start:end].view(texts, length, heads, hidden // heads).copy_(attended.transpose(1, 2))
        start = end
    if start < len(qkv):  # rows that only round the batch up
        result[start:] = 0
    return result


def attend_first(query: Tensor, kv: Tensor, groups: Groups, heads: int) -> Tensor:
    """The first token of each text looks at every token of its text: all that a classifier reads of a layer.

    Args:
        query: (texts, hidden), the queries of the first tokens.
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
        result[first:last] = scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(texts, hidden)
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
