"""Number formats while fitting: matrices in the fast one, what is fitted in fp32."""

from contextlib import AbstractContextManager
from typing import Any

import torch


def autocasting(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Matrix products in that format; nothing changes for fp32."""
    reduced = dtype != torch.float32
    return torch.autocast(device.type, dtype=dtype if reduced else torch.bfloat16, enabled=reduced)


def hold_frozen(model: Any, dtype: torch.dtype, *, is_dora: bool) -> None:
    """Keep the frozen matrices in the format that they are multiplied in.

    Autocast keeps no cast of a frozen weight: it would be cast again in every pass. What is fitted stays
    fp32, and adapters take their input as it comes instead of widening it.

    Args:
        model: A peft model.
        dtype: The format of the matrix products.
        is_dora: DoRA takes norms of the frozen weights, which need fp32.
    """
    if dtype == torch.float32 or is_dora:
        return
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and not module.weight.requires_grad:
            module.to(dtype)
        if hasattr(module, "cast_input_dtype_enabled"):
            module.cast_input_dtype_enabled = False
