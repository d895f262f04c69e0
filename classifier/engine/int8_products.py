"""Layers in int8 by oneDNN's products, of unsigned activations and signed weights.

PyTorch's compiler emits the operator. Scales are fixed, so that the answer to a text depends on no other text
of its batch, and GELU and the conversion of its result are part of the product.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, Self

import torch
from torch import Tensor

ZERO = 128
"""The byte of a centred 0: oneDNN's fast products take unsigned activations."""
LARGEST = 127
"""The largest weight, in steps."""
LARGEST_PAIR = 128
"""255 times this is the largest sum of 16 bits."""


@dataclass(frozen=True, slots=True)
class Levels:
    """How numbers become the unsigned bytes that a product takes.

    Attributes:
        step: What one unit of a byte means, after smoothing.
        zero: The byte that means 0.
        smoothing: fp32 (in): what each channel is multiplied by to count steps; None for an input in bytes.
        shift: fp32 (in): what is added to it then.
    """

    step: float
    zero: int
    smoothing: Tensor | None = None
    shift: Tensor | None = None

    def bytes_of(self, x: Tensor) -> Tensor:
        """uint8, of x's shape (rows, in), with 128 as zero; what is out of range becomes the nearest byte."""
        if self.smoothing is None or self.shift is None:
            raise TypeError("This layer takes bytes.")
        steps = _scratch.like(x)
        if x.dtype != torch.float32:
            x = steps.copy_(x)
        torch.addcmul(self.shift, x, self.smoothing, out=steps).round_().clamp_(-ZERO, ZERO - 1)
        # By way of int8: PyTorch converts to uint8 nine times as slowly.
        return steps.to(torch.int8).view(torch.uint8).bitwise_xor_(ZERO)


class _Scratch(threading.local):
    """Memory for what becomes bytes, kept by each thread: fresh pages take longer than the arithmetic."""

    def __init__(self) -> None:
        self._kept = torch.empty(0)

    def like(self, x: Tensor) -> Tensor:
        """fp32, of x's shape; it holds anything, and is the next caller's as well."""
        if self._kept.numel() < x.numel():
            with torch.inference_mode(mode=False):  # else it could be written in that mode alone
                self._kept = torch.empty(x.numel())
        return self._kept[: x.numel()].view(x.shape)


_scratch = _Scratch()


class Rounded(NamedTuple):
    """Weights as bytes.

    Attributes:
        steps: int8 (out, in).
        scales: fp32 (out): what one unit means.
    """

    steps: Tensor
    scales: Tensor


class Quantised(NamedTuple):
    """A layer's numbers in int8, before the product packs them.

    Attributes:
        weight: (out, in).
        bias: (out), fp32.
        levels: Of the input; an input in uint8 has them already.
    """

    weight: Rounded
    bias: Tensor
    levels: Levels

    def to_tensors(self) -> dict[str, Tensor]:
        """All of it by name, as a file holds it."""
        levels = self.levels
        found = {"steps": self.weight.steps, "scales": self.weight.scales, "bias": self.bias}
        found["levels"] = torch.tensor([levels.step, levels.zero], dtype=torch.float64)
        if levels.smoothing is not None and levels.shift is not None:
            found |= {"smoothing": levels.smoothing, "shift": levels.shift}
        return found

    @classmethod
    def from_tensors(cls, kept: Mapping[str, Tensor]) -> Self:
        """What :meth:`to_tensors` gave.

        Raises:
            KeyError: If something is missing.
        """
        step, zero = kept["levels"].tolist()
        levels = Levels(step, round(zero), kept.get("smoothing"), kept.get("shift"))
        return cls(Rounded(kept["steps"], kept["scales"]), kept["bias"], levels)


class Int8Linear:
    """oneDNN's int8 product.

    Args:
        numbers: Of the layer.
        output: The number format of what a plain call gives.
        after_gelu: The levels of what :meth:`gelu` gives: those of the next layer.
    """

    def __init__(
        self,
        numbers: Quantised,
        *,
        output: torch.dtype = torch.float32,
        after_gelu: Levels | None = None,
    ) -> None:
        weight, self._bias, self._levels = numbers
        self._weight, self._scales = torch.ops.onednn.qlinear_prepack(weight.steps, None), weight.scales
        self._zeros = torch.zeros(len(self._bias), dtype=torch.int64)
        self._output, self._after_gelu = output, after_gelu

    def __call__(self, x: Tensor) -> Tensor:
        """(rows, out), in the format of the output; not finite in rows where x is not."""
        return _keep_broken(self._product(x, "none", self._output, None), x)

    def gelu(self, x: Tensor) -> Tensor:
        """(rows, out) through GELU: uint8, as the next layer takes it."""
        return self._product(x, "gelu", torch.uint8, self._after_gelu)

    def add(self, x: Tensor, other: Tensor) -> Tensor:
        """(rows, out), plus another tensor of that shape, in fp32."""
        return _keep_broken(self._product(x, "none", torch.float32, None).add_(other), x)

    def _product(self, x: Tensor, post_op: str, output: torch.dtype, levels: Levels | None) -> Tensor:
        if x.dtype != torch.uint8:
            x = self._levels.bytes_of(x)
        step, zero = (1.0, 0) if levels is None else (levels.step, levels.zero)
        weight = (self._weight, self._scales, self._zeros, self._bias)
        return torch.ops.onednn.qlinear_pointwise(  # type: ignore[no-any-return]
            x, self._levels.step, self._levels.zero, *weight, step, zero, output, post_op, [], "none"
        )


def _keep_broken(result: Tensor, x: Tensor) -> Tensor:
    """Bytes are always finite: without this, a row that has to be computed again would not be noticed."""
    if x.dtype != torch.uint8 and not x.sum().isfinite():
        result[~x.isfinite().all(dim=1)] = torch.nan
    return result


@lru_cache(maxsize=1)
def sums_of_pairs() -> Literal["whole", "cut", "unknown"]:
    """Whether sums of two neighbouring products are whole here, or cut off at 16 bits.

    AVX2 without VNNI cuts them off (``vpmaddubsw``): a neighbour's weight bounds how large a weight may be.
    It is found out by a product, as flags do not say what oneDNN makes of them; ``unknown`` where other sums
    than those of the inputs 2n and 2n + 1 are cut off, or products are wrong.
    """
    alternating = torch.zeros(64, 64, dtype=torch.int8)
    alternating[:, ::2] = LARGEST
    every = torch.full((64, 64), LARGEST, dtype=torch.int8)
    pairs = torch.full((64, 64), LARGEST_PAIR // 2, dtype=torch.int8)
    if not (_is_whole(alternating) and _is_whole(pairs)):
        return "unknown"
    return "whole" if _is_whole(every) else "cut"


def _is_whole(steps: Tensor) -> bool:
    """Whether the product of these weights (64, 64) with the largest bytes is exact."""
    layer = Int8Linear(Quantised(Rounded(steps, torch.ones(64)), torch.zeros(64), Levels(1.0, 0)))
    found = layer(torch.full((64, 64), 255, dtype=torch.uint8))
    return bool((found == 255.0 * steps.float().sum(1)).all())


def has_int8_products() -> bool:
    """Whether this build of PyTorch has oneDNN's int8 products, and they are right."""
    if not hasattr(torch.ops.onednn, "qlinear_pointwise"):
        return False
    try:
        return sums_of_pairs() != "unknown"
    except (RuntimeError, TypeError):
        return False
