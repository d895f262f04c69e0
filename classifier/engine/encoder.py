"""Extracts the tables and layers of a BERT or RoBERTa model for the packed engine."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from classifier.adapters.manifest import Pooling
from classifier.engine.linear import Linear, LinearMaker, LoraLinear, PlainLinear, make_linear
from classifier.engine.pooling import pooling_of

_SUPPORTED = {
    "BertForSequenceClassification": "bert",
    "RobertaForSequenceClassification": "roberta",
    "XLMRobertaForSequenceClassification": "roberta",
    "CamembertForSequenceClassification": "roberta",
}


class Unsupported(Exception):
    """The packed engine cannot run this model exactly; the general one can."""


@dataclass(frozen=True, slots=True)
class Norm:
    """Layer normalisation over the last axis."""

    weight: Tensor
    bias: Tensor
    epsilon: float

    def __call__(self, x: Tensor) -> Tensor:
        """The same shape as x: (rows, hidden)."""
        return torch.nn.functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)


@dataclass(frozen=True, slots=True)
class Tables:
    """The embeddings: all tasks on one base share them.

    Attributes:
        words: (vocabulary, hidden).
        positions: (positions, hidden), the constant token type already added.
        norm: What follows the sum.
        padding: RoBERTa counts positions from here on and skips this id; None: from 0, BERT's way.
    """

    words: Tensor
    positions: Tensor
    norm: Norm
    padding: int | None


@dataclass(frozen=True, slots=True)
class Layer:
    """One block of the encoder.

    Attributes:
        query: hidden to hidden; used alone in a last layer that computes first tokens only.
        keys_values: hidden to 2 x hidden; used alone there, too.
        query_keys_values: hidden to 3 x hidden; None there.
        attended: What follows the attention.
        attended_norm: And normalises it.
        wide: hidden to intermediate, GELU after it.
        narrow: intermediate to hidden.
        output_norm: The last step.
    """

    query: Linear | None
    keys_values: Linear | None
    query_keys_values: Linear | None
    attended: Linear
    attended_norm: Norm
    wide: Linear
    narrow: Linear
    output_norm: Norm
    outliers: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True, slots=True)
class Encoder:
    """Everything between token ids and logits.

    Attributes:
        tables: The embeddings.
        layers: In order.
        heads: Attention heads.
        head: What it reads of each text (texts, hidden) to logits (texts, labels), in fp32.
        dtype: Number format of tables and layers.
        device: Where they are.
        attention_dtype: Number format of queries, keys and values.
        by_products: Whether attention goes by batched products (:mod:`classifier.engine.attention`).
        pooling: What the head reads: the first token's state, or the mean over the tokens.
    """

    tables: Tables
    layers: tuple[Layer, ...]
    heads: int
    head: Callable[[Tensor], Tensor]
    dtype: torch.dtype
    device: torch.device
    attention_dtype: torch.dtype
    by_products: bool = False
    pooling: Pooling = "first"


def check_supported(model: Any) -> None:
    """Refuse what the packed engine does not compute to the letter.

    Raises:
        Unsupported: Saying what is different.
    """
    name, config = type(model).__name__, model.config
    if name not in _SUPPORTED:
        raise Unsupported(f"{name} is not of the BERT or RoBERTa family")
    if config.hidden_act != "gelu":
        raise Unsupported(f"the activation is {config.hidden_act}, not gelu")
    if getattr(config, "position_embedding_type", "absolute") not in (None, "absolute"):
        raise Unsupported(f"positions are {config.position_embedding_type}, not absolute")
    if getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False):
        raise Unsupported("the model is a decoder")
    if any(module._forward_hooks or module._forward_pre_hooks for module in model.modules()):  # noqa: SLF001
        raise Unsupported("something hooks into the model's layers")


def take_apart(
    model: Any,
    dtype: torch.dtype,
    device: torch.device,
    base: "Encoder | None" = None,
    make: LinearMaker = make_linear,
) -> Encoder:
    """The encoder of a model whose adapters are merged, or whose LoRA layers peft has put around the base's.

    Args:
        model: A sequence classifier in fp32, peft's wrapper taken off; it can be let go afterwards.
        dtype: Number format to run in.
        device: Where to run.
        base: An encoder of the same base: its tables and base layers are used again, not copied.
        make: What makes a layer of a weight and a bias.

    Raises:
        Unsupported: If the packed engine cannot run the model exactly.
    """
    check_supported(model)
    body = model.base_model
    maker = _Maker(dtype, device, make)
    blocks = list(body.encoder.layer)
    shared = base.layers if base is not None else (None,) * len(blocks)
    pooling = pooling_of(model)
    layers = tuple(
        _layer(block, maker, reuse, first_only=pooling == "first" and index == len(blocks) - 1)
        for index, (block, reuse) in enumerate(zip(blocks, shared, strict=True))
    )
    tables = base.tables if base is not None else _tables(body.embeddings, maker, type(model).__name__)
    heads = model.config.num_attention_heads
    head = _head(model, device)
    return Encoder(tables, layers, heads, head, dtype, device, attention_dtype=dtype, pooling=pooling)


class _Maker:
    """Makes parts of the engine from a model's modules."""

    def __init__(self, dtype: torch.dtype, device: torch.device, make: LinearMaker) -> None:
        self._make = make
        self._to = {"dtype": dtype, "device": device}

    def tensor(self, value: Tensor) -> Tensor:
        # A copy: transformers maps weights from their file, and one tensor would keep all of it mapped.
        return value.detach().to(**self._to, copy=True).contiguous()  # type: ignore[call-overload,no-any-return]

    def norm(self, module: Any) -> Norm:
        return Norm(self.tensor(module.weight), self.tensor(module.bias), module.eps)

    def linear(self, modules: list[Any], reuse: Linear | None = None, scales: Sequence[float] = ()) -> Linear:
        """One layer from several that read the same input, the output of each multiplied by its scale.

        Args:
            modules: Linear layers, as they are or as peft has wrapped them.
            reuse: The base's layer, if it was made before.
            scales: One per module; empty for ones.
        """
        scales = scales or [1.0] * len(modules)
        shared = _base_of(reuse)
        if shared is None:
            weights, biases = [], []
            for module, scale in zip(modules, scales, strict=True):
                inner = getattr(module, "base_layer", module)
                weights.append(self.tensor(inner.weight * scale))
                biases.append(self.tensor(inner.bias * scale))
            shared = self._make(torch.cat(weights), torch.cat(biases))
        if not any(hasattr(module, "lora_A") for module in modules):
            return shared
        a, b = _updates(modules, scales)
        if not b.any():  # as of an adapter of which only the head was fitted
            return shared
        return LoraLinear(shared, self.tensor(a), self.tensor(b), self._make)


def _base_of(layer: Linear | None) -> Linear | None:
    return layer.shared if isinstance(layer, LoraLinear) else layer


def _updates(modules: list[Any], scales: Sequence[float]) -> tuple[Tensor, Tensor]:
    """LoRA's matrices of layers that are run as one: A stacked, B on the diagonal, the scale in B.

    Raises:
        Unsupported: If an adapter is more than plain LoRA.
    """
    downs, ups = [], []
    for module, scale in zip(modules, scales, strict=True):
        out_features, in_features = getattr(module, "base_layer", module).weight.shape
        if not hasattr(module, "lora_A"):
            downs.append(torch.zeros(0, in_features))
            ups.append(torch.zeros(out_features, 0))
            continue
        (name,) = module.active_adapters
        if module.use_dora.get(name) or module.lora_bias.get(name) or module.fan_in_fan_out:
            raise Unsupported("the adapter is more than plain LoRA")  # DoRA rescales whole rows of the base
        downs.append(module.lora_A[name].weight.detach())
        ups.append(module.lora_B[name].weight.detach() * module.scaling[name] * scale)
    return torch.cat(downs), torch.block_diag(*ups)  # type: ignore[no-untyped-call]


def _layer(block: Any, maker: _Maker, reuse: Layer | None, *, first_only: bool) -> Layer:
    attention, attended = block.attention.self, block.attention.output
    three = [attention.query, attention.key, attention.value]
    scales = [
        float(attention.attention_head_size) ** -0.5,
        1.0,
        1.0,
    ]  # attention's own, moved into the queries

    def again(name: str) -> Linear | None:
        return getattr(reuse, name) if reuse is not None else None

    return Layer(
        query=maker.linear(three[:1], again("query"), scales[:1]) if first_only else None,
        keys_values=maker.linear(three[1:], again("keys_values")) if first_only else None,
        query_keys_values=None if first_only else maker.linear(three, again("query_keys_values"), scales),
        attended=maker.linear([attended.dense], again("attended")),
        attended_norm=reuse.attended_norm if reuse else maker.norm(attended.LayerNorm),
        wide=maker.linear([block.intermediate.dense], again("wide")),
        narrow=maker.linear([block.output.dense], again("narrow")),
        output_norm=reuse.output_norm if reuse else maker.norm(block.output.LayerNorm),
    )


def _tables(embeddings: Any, maker: _Maker, name: str) -> Tables:
    positions = embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]
    padding = embeddings.padding_idx if _SUPPORTED[name] == "roberta" else None
    words = maker.tensor(embeddings.word_embeddings.weight)
    return Tables(words, maker.tensor(positions), maker.norm(embeddings.LayerNorm), padding)


def _head(model: Any, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The few layers after the encoder, in fp32: they cost nothing and decide."""
    *inner, last = (
        PlainLinear(
            *(
                value.detach().to(device=device, dtype=torch.float32, copy=True)
                for value in (layer.weight, layer.bias)
            )
        )
        for layer in _head_layers(model)
    )
    if not inner:
        return lambda states: last(states.float())
    (dense,) = inner
    return lambda states: last(torch.tanh(dense(states.float())))


def _head_layers(model: Any) -> Iterator[Any]:
    if pooling_of(model) == "mean":
        yield _fitted(model.classifier)
    elif _SUPPORTED[type(model).__name__] == "bert":
        yield _fitted(model.base_model.pooler).dense
        yield _fitted(model.classifier)
    else:
        yield _fitted(model.classifier).dense
        yield _fitted(model.classifier).out_proj


def _fitted(module: Any) -> Any:
    """The copy that an adapter brought, where peft keeps it beside the base's own."""
    if not hasattr(module, "modules_to_save"):
        return module
    (name,) = module.active_adapters
    return module.modules_to_save[name]
