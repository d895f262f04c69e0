"""Linear layers for inference: prepacked for oneDNN on the CPU, plain elsewhere, optionally with LoRA."""

from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

import structlog
import torch
from torch import Tensor
from torch.nn.functional import gelu, linear

log = structlog.get_logger()

_PACKED_FOR_ROWS = 2048


class Linear(Protocol):
    """``x W^T + b``, with what often follows it fused where that is faster: x is (rows, in)."""

    def __call__(self, x: Tensor) -> Tensor:
        """(rows, out)."""

    def gelu(self, x: Tensor) -> Tensor:
        """(rows, out), through GELU (the exact one, by erf)."""

    def add(self, x: Tensor, other: Tensor) -> Tensor:
        """(rows, out), plus another tensor of that shape."""


LinearMaker = Callable[[Tensor, Tensor], Linear]
"""Makes a layer of a weight (out, in) and a bias (out)."""


class PlainLinear:
    """PyTorch's own layer: for CUDA and MPS, and for a CPU build without oneDNN's fused layer.

    Args:
        weight: (out, in), on its device.
        bias: (out).
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._weight = weight
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        """(rows, out)."""
        return linear(x, self._weight, self._bias)

    def gelu(self, x: Tensor) -> Tensor:
        """(rows, out), through GELU."""
        return gelu(linear(x, self._weight, self._bias))

    def add(self, x: Tensor, other: Tensor) -> Tensor:
        """(rows, out), plus another tensor of that shape."""
        return linear(x, self._weight, self._bias) + other


class PrepackedLinear:
    """oneDNN's layer, its weight laid out once for the matrix unit, GELU fused into the product.

    The operator is the one that PyTorch's own compiler emits; it has no public name, so
    :func:`prepacking_works` tries it before it is used.

    Args:
        weight: (out, in), on the CPU.
        bias: (out).
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _PACKED_FOR_ROWS)  # noqa: SLF001
        self._bias = bias
        self._operator = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001

    def __call__(self, x: Tensor) -> Tensor:
        """(rows, out)."""
        return self._operator(x, self._weight, self._bias, "none", [], "")  # type: ignore[no-any-return]

    def gelu(self, x: Tensor) -> Tensor:
        """(rows, out), through GELU."""
        return self._operator(x, self._weight, self._bias, "gelu", [], "none")  # type: ignore[no-any-return]

    def add(self, x: Tensor, other: Tensor) -> Tensor:
        """(rows, out), plus another tensor of that shape."""
        return self(x).add_(other)  # faster than oneDNN's fused sum, by 8 % of a whole forward pass


class LoraLinear:
    """A layer that several tasks share, with one task's low-rank update added: ``x W^T + b + (x A^T) B^T``.

    Args:
        shared: The layer of the base.
        a: (rank, in).
        b: (out, rank), LoRA's scale multiplied in.
        make: What makes a layer of a weight and a bias.
    """

    def __init__(self, shared: Linear, a: Tensor, b: Tensor, make: LinearMaker) -> None:
        self.shared = shared
        self._down = make(a, torch.zeros(a.shape[0], dtype=a.dtype, device=a.device))
        self._up = make(b, torch.zeros(b.shape[0], dtype=b.dtype, device=b.device))

    def __call__(self, x: Tensor) -> Tensor:
        """(rows, out)."""
        return self._up.add(self._down(x), self.shared(x))

    def gelu(self, x: Tensor) -> Tensor:
        """(rows, out), through GELU."""
        return gelu(self(x))

    def add(self, x: Tensor, other: Tensor) -> Tensor:
        """(rows, out), plus another tensor of that shape."""
        return self._up.add(self._down(x), self.shared.add(x, other))


def make_linear(weight: Tensor, bias: Tensor) -> Linear:
    """The fastest layer for that weight's device and number format that gives the right numbers."""
    weight, bias = weight.detach(), bias.detach()
    if weight.device.type == "cpu" and prepacking_works(weight.dtype):
        return PrepackedLinear(weight, bias)
    return PlainLinear(weight, bias)


@lru_cache(maxsize=4)
def prepacking_works(dtype: torch.dtype) -> bool:
    """Whether this build of PyTorch has oneDNN's fused layers and they give what the plain ones give."""
    generator = torch.Generator().manual_seed(0)
    weight, bias, x, other = (
        torch.randn(*shape, generator=generator).to(dtype) for shape in ((48, 32), (48,), (7, 32), (7, 48))
    )
    plain = PlainLinear(weight, bias)
    try:
        with torch.inference_mode():
            packed = PrepackedLinear(weight, bias)
            pairs = (
                (packed(x), plain(x)),
                (packed.gelu(x), plain.gelu(x)),
                (packed.add(x, other), plain.add(x, other)),
            )
    except (RuntimeError, AttributeError, TypeError) as err:
        log.warning("fused_layers_missing", error=type(err).__name__, torch=torch.__version__)
        return False
    tolerance = (
        1e-4 if dtype == torch.float32 else 0.1
    )  # bf16 keeps 8 bits; sums of 32 products reach about 20
    return all(torch.allclose(ours, theirs, atol=tolerance, rtol=0.02) for ours, theirs in pairs)
