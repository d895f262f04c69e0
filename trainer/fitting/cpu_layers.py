"""Layers as a CPU computes them fastest while adapters are fitted: the model's own sums, in fewer passes.

- LoRA's thin products in the forms that BLAS multiplies fast: with eight columns a product of a transposed
  matrix reaches a seventh of the speed of the same sums with eight rows.
- Where the processor computes in fp32, gradients pass through the frozen matrices in int8, each row scaled by
  its own largest value. What is fitted gets exact products of what arrives; the forward pass is exact.
- Attention keeps what its backward pass reads, and nothing else.
- The last layer of BERT and RoBERTa computes the first token alone, where the head reads no more.
"""

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import structlog
import torch
from torch import Tensor
from torch.nn.functional import linear

from classifier.engine import Row
from classifier.engine.encoder import Unsupported, check_supported
from classifier.engine.general import Padding
from classifier.engine.pooling import pooling_of

log = structlog.get_logger()

_TINY = 1e-30
_TOLERANCE = 1e-4  # of the largest logit: more than another order of fp32 sums explains


def speed_up_layers(model: Any, rows: Sequence[Row]) -> None:
    """Let the layers of a BERT or RoBERTa classifier take the fast way; another model stays as it is.

    Args:
        model: A sequence classifier in fp32 on the CPU, in evaluation mode, without adapters. Its dropout is
            off, and its attention ``eager``, whose mask is what attention adds to the scores.
        rows: At least two, of different lengths: the model has to give them the same logits as before.
    """
    try:
        check_supported(model)
    except Unsupported:
        return
    layers = list(model.base_model.encoder.layer)
    padding, cpu = Padding(model.config), torch.device("cpu")
    reads_first = pooling_of(model) == "first"
    with torch.inference_mode():
        expected, _ = padding.run(model, rows, cpu)
        for layer in layers:
            layer.forward = partial(_layer_forward, layer, first_only=reads_first and layer is layers[-1])
        found, _ = padding.run(model, rows, cpu)
    if float((found - expected).abs().max()) > _TOLERANCE * float(expected.abs().max()):
        for layer in layers:
            del layer.forward
        log.warning(
            "fast_layers_not_used", model=type(model).__name__, reason="other logits than the model's"
        )


def speed_up_adapters(model: Any, *, int8_gradients: bool = False) -> None:
    """Let every plain LoRA layer of a peft model take the fast way; others stay as they are.

    Args:
        model: On the CPU.
        int8_gradients: Whether gradients pass through frozen matrices in int8; these are in fp32.
    """
    for module in model.modules():
        if _is_plain_lora(module):
            weight = module.base_layer.weight
            module.int8_weight = _Int8Weight(weight) if int8_gradients else None
            module.forward = partial(_lora_forward, module)


@lru_cache(maxsize=1)
def multiplies_int8() -> bool:
    """Whether this build of PyTorch multiplies matrices in int8, and gets what it should."""
    generator = torch.Generator().manual_seed(0)
    weight, gradient = (torch.randn(*shape, generator=generator) for shape in ((48, 32), (7, 48)))
    exact = gradient @ weight
    try:
        found = _Int8Weight(weight).multiply(gradient)
    except (RuntimeError, AttributeError) as err:
        log.warning("int8_products_missing", error=type(err).__name__, torch=torch.__version__)
        return False
    return float((found - exact).norm()) < 0.05 * float(exact.norm())


class _Int8Weight:
    """A weight (out, in) in int8, packed by oneDNN to multiply gradients (rows, out); one scale per input.

    Gradients take 7 bits around 64: with 8, the sums of AVX2's instruction may overflow.

    Args:
        weight: fp32 (out, in), on the CPU.
    """

    def __init__(self, weight: Tensor) -> None:
        transposed = weight.detach().t()
        self._scales = transposed.abs().amax(1).clamp(min=_TINY) / 127
        steps = (transposed / self._scales[:, None]).round().to(torch.int8).contiguous()
        self._packed = torch.ops.onednn.qlinear_prepack(steps, None)
        self._zeros = torch.zeros(len(self._scales), dtype=torch.int64)

    def multiply(self, gradient: Tensor) -> Tensor:
        """(rows, in), fp32."""
        low, high = gradient.amin(1, keepdim=True), gradient.amax(1, keepdim=True)
        steps = torch.maximum(high, -low).clamp_(min=_TINY) / 63  # (rows, 1)
        rounded = (gradient / steps).add_(64.5).to(torch.int8).view(torch.uint8)
        product = torch.ops.onednn.qlinear_pointwise(
            rounded, 1.0, 64, self._packed, self._scales, self._zeros, None, 1.0, 0, torch.float32, "none",
            [], "",
        )  # fmt: skip
        return product.mul_(steps)  # type: ignore[no-any-return]


def _is_plain_lora(module: Any) -> bool:
    """Whether a module adds one low-rank update to a frozen linear layer, and does nothing else."""
    base = getattr(module, "base_layer", None)
    if not hasattr(module, "lora_A") or type(base) is not torch.nn.Linear or base.weight.requires_grad:
        return False
    (name,) = module.active_adapters
    has_variant = name in getattr(module, "lora_variant", {}) or bool(module.lora_bias.get(name))
    return not has_variant and isinstance(module.lora_dropout[name], torch.nn.Identity)


def _lora_forward(module: Any, x: Tensor) -> Tensor:
    return _products(x, [module])[0]


def _layer_forward(
    layer: Any,
    hidden_states: Tensor,
    attention_mask: Tensor | None = None,
    *_: Any,
    first_only: bool,
    **__: Any,
) -> Tensor:
    """(rows, longest, hidden) to the same, or to (rows, 1, hidden) of the first tokens."""
    own = layer.attention.self
    if first_only:
        asking = hidden_states[:, :1]
        queries = _products(asking, [own.query])
        states = [*queries, *_products(hidden_states, [own.key, own.value])]
    else:
        asking = hidden_states
        states = _products(hidden_states, [own.query, own.key, own.value])
    mask = None if attention_mask is None else attention_mask[:, :, : asking.shape[1]]
    attended = _Attention.apply(own.num_attention_heads, mask, *states)  # type: ignore[no-untyped-call]
    return layer.feed_forward_chunk(layer.attention.output(attended, asking))  # type: ignore[no-any-return]


def _products(x: Tensor, modules: Sequence[Any]) -> list[Tensor]:
    """The results of layers that read the same input, each (…, its width)."""
    if not all(map(_is_plain_lora, modules)):
        return [module(x) for module in modules]
    tensors: list[Tensor] = []
    for module in modules:
        (name,) = module.active_adapters
        base, scale = module.base_layer, module.scaling[name]
        tensors += [base.weight, base.bias, module.lora_A[name].weight, module.lora_B[name].weight * scale]
    packed = [getattr(module, "int8_weight", None) for module in modules]
    return list(_LoraProducts.apply(packed, x, *tensors))  # type: ignore[no-untyped-call]


class _LoraProducts(torch.autograd.Function):
    """``x W^T + b + (x A^T) B^T`` for several frozen W and b: gradients go to x, A and B."""

    @staticmethod
    def forward(ctx: Any, packed: Sequence[Any], x: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Results (…, out), one for each W; after x come W, b, A and B of each, LoRA's scale in B.

        Each W may be packed in int8 for the backward pass.
        """
        weights, biases, downs, ups = (tensors[which::4] for which in range(4))
        dtype = weights[0].dtype
        rows = x.reshape(-1, x.shape[-1]).to(dtype)  # (tokens, in)
        down = torch.cat([one.to(dtype) for one in downs])  # (ranks, in)
        wide_ups = [up.to(dtype).t() for up in ups]  # (rank, out) each
        thin = linear(rows, down)  # (tokens, ranks)
        results, start = [], 0
        for weight, bias, up in zip(weights, biases, wide_ups, strict=True):
            result = linear(rows, weight, bias)
            result.addmm_(thin[:, start : start + len(up)], up)
            results.append(result.view(*x.shape[:-1], -1))
            start += len(up)
        ctx.save_for_backward(rows, thin, down, *weights, *wide_ups)
        ctx.of_x = (x.shape, x.dtype)
        ctx.packed = packed
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, and of W and b (none), A and B of each."""
        rows, thin, down, *saved = ctx.saved_tensors
        weights, ups = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        thin_gradient = torch.empty_like(thin.t(), memory_format=torch.contiguous_format)  # (ranks, tokens)
        into_x: Tensor | None = None
        found: list[Tensor | None] = []
        start = 0
        for weight, up, packed, gradient in zip(weights, ups, ctx.packed, gradients, strict=True):
            part = slice(start, start + len(up))
            flat = gradient.reshape(len(rows), -1).to(rows.dtype)  # (tokens, out)
            torch.mm(up, flat.t(), out=thin_gradient[part])
            found += [None, None, None, (thin[:, part].t() @ flat).t().float()]
            if ctx.needs_input_grad[1]:
                into_x = _into_input(flat, weight, packed, into_x)
            start += len(up)
        for index, one in enumerate((thin_gradient @ rows).float().split([len(up) for up in ups])):
            found[4 * index + 2] = one
        if into_x is not None:
            shape, dtype = ctx.of_x
            into_x = into_x.addmm_(thin_gradient.t(), down).view(shape).to(dtype)
        return None, into_x, *found


def _into_input(
    gradient: Tensor, weight: Tensor, packed: _Int8Weight | None, others: Tensor | None
) -> Tensor:
    """(rows, in): a gradient (rows, out) through a weight, added to what comes from other layers."""
    if packed is None:
        return gradient @ weight if others is None else others.addmm_(gradient, weight)
    found = packed.multiply(gradient)
    return found if others is None else others.add_(found)


class _Attention(torch.autograd.Function):
    """Every asking token looks at every token of its row that the mask leaves."""

    @staticmethod
    def forward(ctx: Any, heads: int, mask: Tensor | None, *states: Tensor) -> Tensor:
        """(rows, asking, hidden) of queries, keys and values (rows, tokens, hidden).

        The mask is (rows, 1, asking, tokens), added to the scores; None: every token is seen.
        """
        scale = (states[0].shape[-1] // heads) ** -0.5
        q, k, v = (_by_head(one, heads) for one in states)  # (rows x heads, tokens, head)
        scores = torch.baddbmm(q.new_empty(()), q, k.transpose(1, 2), beta=0, alpha=scale)
        if mask is not None:
            scores.view(len(mask), heads, *scores.shape[1:]).add_(mask)
        weights = torch.softmax(scores, -1)
        ctx.save_for_backward(q, k, v, weights)
        ctx.heads, ctx.scale = heads, scale
        return _by_row(torch.bmm(weights, v), heads)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of queries, keys and values."""
        q, k, v, weights = ctx.saved_tensors
        into = _by_head(gradient, ctx.heads)
        into_v = torch.bmm(weights.transpose(1, 2), into)
        into_weights = torch.bmm(into, v.transpose(1, 2))
        into_scores = torch._softmax_backward_data(into_weights, weights, -1, weights.dtype)  # noqa: SLF001
        nothing = q.new_empty(())
        into_q = torch.baddbmm(nothing, into_scores, k, beta=0, alpha=ctx.scale)
        into_k = torch.baddbmm(nothing, into_scores.transpose(1, 2), q, beta=0, alpha=ctx.scale)
        return None, None, *(_by_row(one, ctx.heads) for one in (into_q, into_k, into_v))


def _by_head(states: Tensor, heads: int) -> Tensor:
    """(rows, tokens, hidden) to (rows x heads, tokens, head), contiguous."""
    rows, tokens, hidden = states.shape
    apart = states.view(rows, tokens, heads, hidden // heads).transpose(1, 2)
    return apart.reshape(rows * heads, tokens, hidden // heads)


def _by_row(states: Tensor, heads: int) -> Tensor:
    """(rows x heads, tokens, head) to (rows, tokens, hidden), contiguous."""
    _, tokens, head = states.shape
    return states.view(-1, heads, tokens, head).transpose(1, 2).reshape(-1, tokens, heads * head)
