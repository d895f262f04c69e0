"""One base for several adapters: which adapters can share it, and how the next one is attached to it."""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from classifier.engine.encoder import Encoder, Unsupported

_HEAD_MODULES = {"classifier", "pooler", "score"}


def check_shareable(adapted: Any) -> None:
    """Refuse an adapter that changes more than low-rank updates and its own head.

    Args:
        adapted: A peft model with one adapter.

    Raises:
        Unsupported: Saying what it changes.
    """
    (config,) = adapted.peft_config.values()
    kind = getattr(config.peft_type, "value", config.peft_type)
    if kind != "LORA":
        raise Unsupported(f"{kind} adapters are merged, not shared")
    if config.bias != "none":
        raise Unsupported("the adapter changes the base's biases")
    if config.use_dora or getattr(config, "lora_bias", False):
        raise Unsupported("the adapter is more than plain LoRA")
    if getattr(config, "trainable_token_indices", None) or getattr(config, "layer_replication", None):
        raise Unsupported("the adapter changes the base's embeddings or layers")
    outside = [
        name for name, module in adapted.named_modules() if hasattr(module, "lora_A") and is_outside(name)
    ]
    if outside:
        raise Unsupported(f"the adapter changes {outside[0]}, which is outside the base's layers")
    others = set(config.modules_to_save or ()) - _HEAD_MODULES
    if others:
        raise Unsupported(f"the adapter replaces {', '.join(sorted(others))} of the base")


class SharedBase:
    """The base's layers in the form that the engine runs, and what the next adapter needs to be attached.

    peft attaches an adapter to a model, but reads nothing of the model's layers except their shapes. So the
    next adapter is attached to a model without layer weights, and the base is not loaded again.

    Args:
        encoder: Made of the base and its first adapter; only the base's parts are kept.
        head: The parameters of the base outside its embeddings and layers, by name: BERT's pooler for one.
        config: The base's configuration.
        model_class: The base's class in transformers.
        unbrought: Names of parameters that no file of the base brings.
    """

    def __init__(
        self,
        encoder: Encoder,
        head: dict[str, Tensor],
        config: Any,
        model_class: type,
        unbrought: frozenset[str],
    ) -> None:
        # The first adapter's own matrices are released with its classifier.
        self.encoder = dataclasses.replace(encoder, layers=tuple(map(_base_layer, encoder.layers)))
        self._head = head
        self._config = config
        self._class = model_class
        self._unbrought = unbrought

    def hollow_model(self, num_labels: int) -> Any:
        """A model with the base's shapes and head, whose embeddings and layers take no memory.

        Args:
            num_labels: How many classes the adapter has, which has to bring a head of that size.
        """
        config = type(self._config).from_dict({**self._config.to_dict(), "num_labels": num_labels})
        with torch.device("meta"):
            model = self._class(config)
        for name, parameter in model.named_parameters():
            _replace(model, name, self._content(name, parameter))
        for name, buffer in model.named_buffers():
            _replace(model, name, torch.zeros((), dtype=buffer.dtype).expand(buffer.shape))
        model.unbrought = self._unbrought
        return model.eval()

    def _content(self, name: str, parameter: Tensor) -> torch.nn.Parameter:
        """The base's own value; zeros for a head of another size; a shape alone for a layer."""
        kept = self._head.get(name)
        if kept is not None and kept.shape == parameter.shape:
            return torch.nn.Parameter(kept.clone(), requires_grad=False)
        if is_of_head(name):
            return torch.nn.Parameter(torch.zeros(parameter.shape), requires_grad=False)
        return torch.nn.Parameter(torch.zeros(()).expand(parameter.shape), requires_grad=False)


def is_outside(name: str) -> bool:
    """Whether a module of a BERT or RoBERTa classifier is none of its layers'."""
    return ".encoder.layer." not in name


def is_of_head(name: str) -> bool:
    """Whether a parameter of a BERT or RoBERTa classifier is outside the embeddings and the layers."""
    return ".embeddings." not in name and ".encoder." not in name


def brings_head(adapter_config: dict[str, Any]) -> bool:
    """Whether an adapter can be attached to shapes alone: it has a head, and reads no weight of the base.

    Args:
        adapter_config: peft's ``adapter_config.json``.
    """
    return "classifier" in (adapter_config.get("modules_to_save") or ()) and adapter_config.get(
        "init_lora_weights", True
    ) in {True, False, "gaussian"}


def _replace(model: Any, name: str, value: Tensor) -> None:
    path, _, last = name.rpartition(".")
    owner = model.get_submodule(path)
    if isinstance(value, torch.nn.Parameter):
        setattr(owner, last, value)
    else:
        owner._buffers[last] = value  # noqa: SLF001  setattr would refuse to change a buffer's kind


def _base_layer(layer: Any) -> Any:
    """A layer without one adapter's updates."""
    parts = {field.name: getattr(layer, field.name) for field in dataclasses.fields(layer)}
    return type(layer)(**{name: getattr(part, "shared", part) for name, part in parts.items()})
