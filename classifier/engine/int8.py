"""The packed engine's layers in int8: weights per output channel, activations per layer with fixed scales.

Products are oneDNN's, of unsigned activations and signed weights, through the operator that PyTorch's
compiler emits. Scales are fixed before serving, from texts that an fp32 engine has answered: so the answer to
a text depends on no other text of its batch, and GELU and the conversion of its result are part of the
product. What keeps the answers close, all of it free while serving except for the last:

- Large channels of an input get smaller, and their weights larger (SmoothQuant, arXiv 2211.10438).
- Each channel is centred first; the product of its centre goes into the bias (Outlier Suppression+, arXiv
  2304.09145).
- Weights are rounded one input channel after another, and the next ones make up for the error (GPTQ, arXiv
  2210.17323).
- The few wide channels that reach furthest after GELU go through a thin product in bf16 or fp32 (LLM.int8(),
  arXiv 2208.07339).
"""

import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Literal, NamedTuple, Self

import torch
from torch import Tensor

from classifier.engine.encoder import Encoder, Layer
from classifier.engine.linear import Linear, make_linear

_ZERO = 128  # the byte of a centred 0: oneDNN's fast products take unsigned activations
_LARGEST = 127
_LARGEST_PAIR = 128  # 255 times this is the largest sum of 16 bits
_LEAST = 1e-6
_SMOOTHING = 0.85  # share of an input's range that moves into the weights
_ONE_OUTLIER_IN = 32
_COVARIANCE_ROWS = 8192
_DAMPING = 0.01
_COLUMNS_AT_ONCE = 64


@dataclasses.dataclass(frozen=True, slots=True)
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
        torch.addcmul(self.shift, x, self.smoothing, out=steps).round_().clamp_(-_ZERO, _ZERO - 1)
        # By way of int8: PyTorch converts to uint8 nine times as slowly.
        return steps.to(torch.int8).view(torch.uint8).bitwise_xor_(_ZERO)


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


class ObservedLinear:
    """A layer in fp32 that remembers what its inputs look like, so that it can become one in int8.

    Args:
        weight: (out, in), fp32, on the CPU.
        bias: (out).
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight, self.bias = weight.detach(), bias.detach()
        channels = weight.shape[1]
        self.low, self.high = torch.zeros(channels), torch.zeros(channels)
        self._rows, self._sum = 0, torch.zeros(channels)
        self._products = torch.zeros(channels, channels)

    @cached_property
    def exact(self) -> Linear:
        """The layer in fp32."""
        return make_linear(self.weight, self.bias)

    def __call__(self, x: Tensor) -> Tensor:
        """(rows, out)."""
        self._observe(x)
        return self.exact(x)

    def gelu(self, x: Tensor) -> Tensor:
        """(rows, out), through GELU."""
        self._observe(x)
        return self.exact.gelu(x)

    def add(self, x: Tensor, other: Tensor) -> Tensor:
        """(rows, out), plus another tensor of that shape."""
        self._observe(x)
        return self.exact.add(x, other)

    def moments(self) -> tuple[Tensor, Tensor]:
        """The mean of each input channel (in), and their covariances (in, in)."""
        rows = max(1, self._rows)
        mean = self._sum / rows
        return mean, self._products / rows - torch.outer(mean, mean)

    def _observe(self, x: Tensor) -> None:
        low, high = x.aminmax(dim=0)
        self.low, self.high = torch.minimum(self.low, low), torch.maximum(self.high, high)
        if self._rows < _COVARIANCE_ROWS:
            self._rows += len(x)
            self._sum += x.sum(0)
            self._products.addmm_(x.T, x)


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


class RoundedLinear:
    """A layer in bf16 between layers whose sums are in fp32.

    Args:
        weight: (out, in), fp32, on the CPU.
        bias: (out).
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._layer = make_linear(weight.bfloat16(), bias.bfloat16())

    def __call__(self, x: Tensor) -> Tensor:
        """(rows, out), in bf16."""
        return self._layer(x.bfloat16())

    def gelu(self, x: Tensor) -> Tensor:
        """(rows, out) through GELU, in bf16."""
        return self._layer.gelu(x.bfloat16())

    def add(self, x: Tensor, other: Tensor) -> Tensor:
        """(rows, out), plus another tensor of that shape, in fp32."""
        return self._layer(x.bfloat16()).float().add_(other)


def in_int8(
    encoder: Encoder,
    *,
    attention: torch.dtype,
    compensate: bool = True,
    numbers: dict[str, Tensor] | None = None,
) -> Encoder:
    """The encoder with its layers in int8.

    Args:
        encoder: Of :class:`ObservedLinear` layers, which have seen the texts that calibrate, unless `numbers`
            holds what came of that.
        attention: bf16 where the processor multiplies it, else fp32: the format of queries, keys and values,
            and of what is computed for first tokens alone.
        compensate: Whether later weights make up for the rounding of earlier ones, which takes seconds.
        numbers: Every layer's numbers by name; what is missing is computed and put there, so that the same
            encoder can be made again of them.
    """
    numbers = {} if numbers is None else numbers
    quantiser = _Quantiser(attention, round_weights if compensate else _round_plainly, numbers)
    layers = [quantiser.layer(layer, f"layer{index}") for index, layer in enumerate(encoder.layers)]
    return _with_layers(encoder, layers, attention)


def not_in_int8(encoder: Encoder, *, attention: torch.dtype) -> Encoder:
    """The encoder with its layers in bf16 or fp32, and the tables of the one in int8.

    Args:
        encoder: Of :class:`ObservedLinear` layers.
        attention: bf16 where the processor multiplies it, else fp32: the format of all layers.
    """
    return _with_layers(encoder, [_kept(layer, attention) for layer in encoder.layers], attention)


def _with_layers(encoder: Encoder, layers: Sequence[Layer], attention: torch.dtype) -> Encoder:
    by_products = attention == torch.bfloat16
    return dataclasses.replace(
        encoder, layers=tuple(layers), attention_dtype=attention, by_products=by_products
    )


def _kept(layer: Layer, dtype: torch.dtype) -> Layer:
    def again(part: Linear | None) -> Linear | None:
        if part is None:
            return None
        observed = _observed(part)
        rounded = dtype == torch.bfloat16
        return RoundedLinear(observed.weight, observed.bias) if rounded else observed.exact

    names = ("query", "keys_values", "query_keys_values", "attended", "wide", "narrow")
    return dataclasses.replace(layer, **{name: again(getattr(layer, name)) for name in names})  # type: ignore[arg-type]


class _Quantiser:
    """Makes layers in int8 of observed ones.

    Args:
        attention: Format of queries, keys and values.
        round_weights: Weights (out, in) and covariance of the inputs to bytes and what one unit means.
        numbers: As :func:`in_int8` takes them.
    """

    def __init__(
        self,
        attention: torch.dtype,
        round_weights: Callable[[Tensor, Tensor], Rounded],
        numbers: dict[str, Tensor],
    ) -> None:
        self._attention = attention
        self._round = round_weights
        self._numbers = numbers

    def layer(self, layer: Layer, name: str) -> Layer:
        def smoothed(part: str, output: torch.dtype, after_gelu: Levels | None = None) -> Int8Linear:
            observed = _observed(getattr(layer, part))
            found = self._once(f"{name}.{part}", lambda: self._smoothed(observed))
            return Int8Linear(found, output=output, after_gelu=after_gelu)

        if layer.query_keys_values is None:
            # Of the last layer, all but keys and values is computed for first tokens alone: int8 gains
            # nothing there, and few texts calibrate it.
            keys_values = smoothed("keys_values", self._attention)
            return dataclasses.replace(_kept(layer, self._attention), keys_values=keys_values)
        wide, narrow = _observed(layer.wide), _observed(layer.narrow)
        outliers = self._numbers.setdefault(f"{name}.outliers", _furthest(narrow))
        last = self._once(f"{name}.narrow", lambda: self._after_gelu(narrow, outliers))
        return dataclasses.replace(
            layer,
            query_keys_values=smoothed("query_keys_values", self._attention),
            attended=smoothed("attended", torch.float32),
            wide=smoothed("wide", torch.float32, last.levels),
            narrow=Int8Linear(last),
            outliers=_Outliers(wide, narrow, outliers, self._attention) if len(outliers) else None,
        )

    def _once(self, name: str, quantise: Callable[[], Quantised]) -> Quantised:
        start = f"{name}."
        known = {key[len(start) :]: value for key, value in self._numbers.items() if key.startswith(start)}
        if known:
            return Quantised.from_tensors(known)
        found = quantise()
        self._numbers.update({start + key: value for key, value in found.to_tensors().items()})
        return found

    def _after_gelu(self, narrow: ObservedLinear, outliers: Tensor) -> Quantised:
        rest = torch.ones(len(narrow.high), dtype=torch.bool)
        rest[outliers] = False
        low, high = float(narrow.low[rest].min()), float(narrow.high[rest].max())
        step = max((high - low) / 255, _LEAST)
        return self._rounded(
            narrow.weight * rest, narrow.bias, narrow.moments(), Levels(step, round(-low / step))
        )

    def _smoothed(self, observed: ObservedLinear) -> Quantised:
        centre = (observed.high + observed.low) / 2
        reach = ((observed.high - observed.low) / 2).clamp_min(_LEAST)
        largest = observed.weight.abs().amax(0).clamp_min(_LEAST)
        by = reach**_SMOOTHING / largest ** (1 - _SMOOTHING)  # (in)
        step = float((reach / by).max()) / (_ZERO - 1)
        levels = Levels(step, _ZERO, 1 / (by * step), -centre / (by * step))
        mean, covariance = observed.moments()
        moments = (mean - centre) / by, covariance / by / by[:, None]
        return self._rounded(observed.weight * by, observed.bias + observed.weight @ centre, moments, levels)

    def _rounded(
        self, weight: Tensor, bias: Tensor, moments: tuple[Tensor, Tensor], levels: Levels
    ) -> Quantised:
        """The weights as bytes, and the bias, which takes back what rounding changes on average."""
        mean, covariance = moments
        rounded = self._round(weight, covariance)
        bias = bias + (weight - rounded.steps * rounded.scales[:, None]) @ mean
        return Quantised(rounded, bias, levels)


def _furthest(narrow: ObservedLinear) -> Tensor:
    """The wide channels that reach furthest after GELU: int64 (channels)."""
    return narrow.high.topk(len(narrow.high) // _ONE_OUTLIER_IN).indices


def _observed(layer: Linear) -> ObservedLinear:
    if not isinstance(layer, ObservedLinear):
        raise TypeError("Only observed layers can become int8.")
    return layer


class _Outliers:
    """What the channels add that reach furthest after GELU: (rows, hidden) to (rows, hidden)."""

    def __init__(
        self, wide: ObservedLinear, narrow: ObservedLinear, channels: Tensor, dtype: torch.dtype
    ) -> None:
        self._dtype = dtype
        self._wide = make_linear(wide.weight[channels].to(dtype), wide.bias[channels].to(dtype))
        weight = narrow.weight[:, channels].to(dtype).contiguous()
        self._narrow = make_linear(weight, torch.zeros(len(weight), dtype=dtype))

    def __call__(self, x: Tensor) -> Tensor:
        return self._narrow(self._wide.gelu(x.to(self._dtype)))


def round_weights(weight: Tensor, covariance: Tensor) -> Rounded:
    """Weights as bytes by GPTQ: each input channel's rounding error is made up for by those after it.

    Args:
        weight: (out, in), fp32.
        covariance: (in, in), of the inputs.
    """
    pairs, scales = sums_of_pairs(), _scales(weight)
    damped = covariance.clone()
    damped.diagonal().add_(_DAMPING * float(damped.diagonal().mean()) + _LEAST)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    upper = torch.linalg.cholesky(inverse, upper=True)
    left, steps = weight.clone(), torch.empty(weight.shape, dtype=torch.int8)
    for start in range(0, weight.shape[1], _COLUMNS_AT_ONCE):
        part = slice(start, start + _COLUMNS_AT_ONCE)
        columns, near = left[:, part], upper[part, part]
        errors, before = torch.empty_like(columns), torch.zeros_like(scales)
        for index in range(columns.shape[1]):
            step = (columns[:, index] / scales).round_().clamp_(-_LARGEST, _LARGEST)
            if pairs == "cut" and index % 2:
                step = _within_pair(step, before)
            before = step
            steps[:, start + index] = step.to(torch.int8)
            errors[:, index] = (columns[:, index] - step * scales) / near[index, index]
            columns[:, index:] -= torch.outer(errors[:, index], near[index, index:])
        left[:, part.stop :] -= errors @ upper[part, part.stop :]
    return Rounded(steps, scales)


def _within_pair(step: Tensor, before: Tensor) -> Tensor:
    """Steps (out) whose sums with those before fit the pair's sum."""
    return torch.minimum(torch.maximum(step, -_LARGEST_PAIR - before), _LARGEST_PAIR - before)


def _round_plainly(weight: Tensor, covariance: Tensor) -> Rounded:
    del covariance
    scales = _scales(weight)
    return Rounded((weight / scales[:, None]).round_().to(torch.int8), scales)


def _scales(weight: Tensor) -> Tensor:
    """fp32 (out): what one unit means, so that no sum is cut off."""
    scales = weight.abs().amax(1) / _LARGEST
    if sums_of_pairs() == "cut":
        even, odd = weight[:, ::2], weight[:, 1::2]
        odd = torch.nn.functional.pad(odd, (0, even.shape[1] - odd.shape[1]))
        scales = torch.maximum(scales, (even + odd).abs().amax(1) / _LARGEST_PAIR)
    return scales.clamp_min(_LEAST)


@lru_cache(maxsize=1)
def sums_of_pairs() -> Literal["whole", "cut", "unknown"]:
    """Whether sums of two neighbouring products are whole here, or cut off at 16 bits.

    AVX2 without VNNI cuts them off (``vpmaddubsw``): a neighbour's weight bounds how large a weight may be.
    It is found out by a product, as flags do not say what oneDNN makes of them; ``unknown`` where other sums
    than those of the inputs 2n and 2n + 1 are cut off, or products are wrong.
    """
    alternating = torch.zeros(64, 64, dtype=torch.int8)
    alternating[:, ::2] = _LARGEST
    every = torch.full((64, 64), _LARGEST, dtype=torch.int8)
    pairs = torch.full((64, 64), _LARGEST_PAIR // 2, dtype=torch.int8)
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
