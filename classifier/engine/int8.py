"""The packed engine's layers in int8: weights per output channel, activations per layer with fixed scales.

Scales are fixed before serving, from texts that an fp32 engine has answered; `int8_products.py` beside this
has the products. What keeps the answers close, all of it free while serving except for the last:

- Large channels of an input get smaller, and their weights larger (SmoothQuant, arXiv 2211.10438).
- Each channel is centred first; the product of its centre goes into the bias (Outlier Suppression+, arXiv
  2304.09145).
- Weights are rounded one input channel after another, and the next ones make up for the error (GPTQ, arXiv
  2210.17323).
- The few wide channels that reach furthest after GELU go through a thin product in bf16 or fp32 (LLM.int8(),
  arXiv 2208.07339).
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from classifier.engine.encoder import Encoder, Layer
from classifier.engine.int8_products import (
    LARGEST,
    LARGEST_PAIR,
    ZERO,
    Int8Linear,
    Levels,
    Quantised,
    Rounded,
    sums_of_pairs,
)
from classifier.engine.linear import Linear, make_linear

_LEAST = 1e-6
_SMOOTHING = 0.85  # share of an input's range that moves into the weights
_ONE_OUTLIER_IN = 32
_COVARIANCE_ROWS = 8192
_DAMPING = 0.01
_COLUMNS_AT_ONCE = 64


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
        step = float((reach / by).max()) / (ZERO - 1)
        levels = Levels(step, ZERO, 1 / (by * step), -centre / (by * step))
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
            step = (columns[:, index] / scales).round_().clamp_(-LARGEST, LARGEST)
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
    return torch.minimum(torch.maximum(step, -LARGEST_PAIR - before), LARGEST_PAIR - before)


def _round_plainly(weight: Tensor, covariance: Tensor) -> Rounded:
    del covariance
    scales = _scales(weight)
    return Rounded((weight / scales[:, None]).round_().to(torch.int8), scales)


def _scales(weight: Tensor) -> Tensor:
    """fp32 (out): what one unit means, so that no sum is cut off."""
    scales = weight.abs().amax(1) / LARGEST
    if sums_of_pairs() == "cut":
        even, odd = weight[:, ::2], weight[:, 1::2]
        odd = torch.nn.functional.pad(odd, (0, even.shape[1] - odd.shape[1]))
        scales = torch.maximum(scales, (even + odd).abs().amax(1) / LARGEST_PAIR)
    return scales.clamp_min(_LEAST)
