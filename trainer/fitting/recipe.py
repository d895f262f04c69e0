"""Which weights are trained: new LoRA matrices, those of another adapter, or all weights.

Also ``peft_config.json``, the same recipe as peft writes it.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydantic

from classifier.adapters.manifest import CONFIG
from classifier.base_model import BaseModel
from classifier.model import check_base, head_modules, put_into
from reviews.errors import WrongUse
from trainer.fitting.fit_data import FitRequest
from trainer.settings import TrainerSettings

FILE = "peft_config.json"
MANY_ROWS = 1_000
"""From so many training rows on, a fresh fit reads the first token unless it is told otherwise."""
_PEFT_TYPES = {"LORA": "lora", "IA3": "ia3"}
# What RoBERTa calls query, key, value and dense, where a family has names of its own.
_NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    "distilbert": {
        "query": ("q_lin",), "key": ("k_lin",), "value": ("v_lin",), "dense": ("out_lin", "lin1", "lin2"),
    },
    "deberta-v2": {"query": ("query_proj",), "key": ("key_proj",), "value": ("value_proj",)},
    "deberta": {"query": ("in_proj",), "key": ("in_proj",), "value": ("in_proj",)},
    "modernbert": {"query": ("Wqkv",), "key": ("Wqkv",), "value": ("Wqkv",), "dense": ("Wo", "Wi")},
    "mpnet": {"query": ("q",), "key": ("k",), "value": ("v",), "dense": ("o", "dense")},
    "albert": {"dense": ("dense", "ffn", "ffn_output")},
}  # fmt: skip
# And in families that are not named above: decoders, and encoders with a decoder.
_COMMON_NAMES: dict[str, tuple[str, ...]] = {
    "query": ("q_proj", "q", "c_attn", "query_key_value", "qkv_proj", "Wqkv"),
    "key": ("k_proj", "k", "c_attn", "query_key_value", "qkv_proj", "Wqkv"),
    "value": ("v_proj", "v", "c_attn", "query_key_value", "qkv_proj", "Wqkv"),
    "dense": (
        "o_proj", "out_proj", "o", "c_proj", "c_fc", "fc1", "fc2", "wi", "wi_0", "wi_1", "wo",
        "gate_proj", "up_proj", "gate_up_proj", "down_proj", "dense_h_to_4h", "dense_4h_to_h",
    ),
}  # fmt: skip
_DEFAULT_TARGETS = ("query", "key", "value", "dense")
_ACTIVATED = ("key", "value", "dense")  # what IA³ scales
# `dense` is also what the pooler and RoBERTa's head call their layers: those are fitted whole or not at all.
_NOT_ADAPTED = r"(.*\.)?(pooler|classifier|pre_classifier|head)(\..*)?"


def adapt(model: Any, settings: TrainerSettings, start: Path | None = None) -> Any:
    """The model with adapter weights to be fitted; for ``none`` the model itself, all of it to be fitted.

    Args:
        model: The base with a head of as many labels as are asked for.
        settings: The recipe.
        start: Directory of an adapter to continue from; None for fresh weights.

    Raises:
        WrongUse: If no layer of the model has one of the names asked for.
        AdapterError: If the adapter to continue from does not fit the model.
    """
    if start is not None:
        name = f"The adapter in {start}"
        return put_into(model, start, name, trainable=True, dropout=settings.lora_dropout)
    if settings.peft_method == "none":
        adapted_layers(model, settings)
        return model.requires_grad_(requires_grad=True)
    from peft import get_peft_model

    return get_peft_model(model, peft_config(model, settings))


def peft_config(model: Any, settings: TrainerSettings) -> Any:
    """Peft's configuration of the method for a sequence classifier.

    Raises:
        WrongUse: If no layer of the model has one of the names asked for.
    """
    from peft import IA3Config, LoraConfig, TaskType

    common = {"task_type": TaskType.SEQ_CLS, "exclude_modules": _NOT_ADAPTED}
    layers = adapted_layers(model, settings)
    if settings.peft_method == "ia3":
        whole = whole_modules(model, train_pooler=False)
        _require_plain_head(model, whole)
        targets = target_modules(model, settings.target_modules or _ACTIVATED)
        attention = target_modules(model, ("query", "key", "value"))
        # As in the paper, attention is scaled at its outputs and the feed-forward layers at their inputs.
        inputs = [name for name in targets if name not in attention]
        return IA3Config(target_modules=targets, feedforward_modules=inputs, modules_to_save=whole, **common)
    targets = target_modules(model, settings.target_modules or _DEFAULT_TARGETS)
    return LoraConfig(
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        use_rslora=settings.peft_method == "rslora",
        use_dora=settings.peft_method == "dora",
        target_modules=targets,
        layers_to_transform=layers,
        fan_in_fan_out=_are_transposed(model, targets),
        modules_to_save=whole_modules(model, train_pooler=settings.train_pooler),
        **common,
    )


def in_shape(request: FitRequest, base: BaseModel) -> FitRequest:
    """The request with the shape of the adapter that it continues from; afresh, with the base's pooling.

    Raises:
        WrongUse: If that adapter has other classes, or all weights are to be fitted.
        AdapterError: If it is damaged or was fitted on another base.
    """
    manifest = request.parent()
    if manifest is None or request.continues_from is None:
        return _reading(request, base)
    if request.settings.peft_method == "none":
        raise WrongUse(
            "Full fine-tuning cannot continue from an adapter; choose another method (peft_method)."
        )
    if manifest.labels != request.splits.train.names:
        raise WrongUse(
            f"Adapter {manifest.version} has the classes {', '.join(manifest.labels)}, the training rows "
            f"{', '.join(request.splits.train.names)}: a run continues from an adapter with the same classes "
            "in the same order only."
        )
    check_base(base, manifest)
    shape = _shape(request.continues_from, request.settings) | {"pooling": manifest.pooling}
    return replace(request, settings=request.settings.model_copy(update=shape))


def _reading(request: FitRequest, base: BaseModel) -> FitRequest:
    """The request that says what the head reads, where it was left to the base."""
    if request.settings.pooling is not None:
        return request
    # A full model is written as its architecture has it. Of many rows a fit learns what the first token is to
    # say, and the pooler behind it is one layer more (benchmarks/training_quality.py).
    is_short = request.settings.peft_method != "none" and len(request.splits.train) < MANY_ROWS
    embeds = is_short and base.embeds_by_mean
    return replace(
        request, settings=request.settings.model_copy(update={"pooling": "mean" if embeds else "first"})
    )


def target_modules(model: Any, names: Sequence[str]) -> list[str]:
    """What this architecture calls the layers that are named as in RoBERTa, or as here.

    Raises:
        WrongUse: If a name is neither; the message lists the valid ones.
    """
    linear, family = linear_names(model), _NAMES.get(model.config.model_type, {})
    found: dict[str, None] = {}
    for name in names:
        common = tuple(own for own in _COMMON_NAMES.get(name, ()) if _is_layer(own, linear))
        own = (name,) if _is_layer(name, linear) else family.get(name, common)
        if not own:
            valid = sorted({layer.rsplit(".", 1)[-1] for layer in linear} | family.keys())
            raise WrongUse(f"{model.config.model_type} has no layer named {name}; it has {', '.join(valid)}.")
        found.update(dict.fromkeys(own))
    return list(found)


def linear_names(model: Any) -> list[str]:
    """Names of the linear layers that an adapter may change."""
    import torch
    from transformers.pytorch_utils import Conv1D

    heads = tuple(f"{name}." for name in head_modules(model))
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D)
        and not re.fullmatch(_NOT_ADAPTED, name)
        and not f"{name}.".startswith(heads)
    ]


def adapted_layers(model: Any, settings: TrainerSettings) -> list[int] | None:
    """The numbers of the layers to adapt, from 0; None for all.

    Raises:
        WrongUse: If the method adapts all layers, or the model has no such number of layers.
    """
    count = settings.adapted_layers
    if count is None:
        return None
    if settings.peft_method in ("ia3", "none"):
        raise WrongUse(f"adapted_layers needs a kind of LoRA; {settings.peft_method} changes all layers.")
    numbers = {int(found[1]) for name in linear_names(model) if (found := re.search(r"\.(\d+)\.", name))}
    if count > len(numbers):
        raise WrongUse(
            f"{model.config.model_type} has {len(numbers)} numbered layers; adapted_layers asks for {count}."
        )
    return sorted(numbers)[-count:]


def _are_transposed(model: Any, targets: Sequence[str]) -> bool:
    """Whether the layers hold their matrices transposed, as GPT-2's do, which peft has to know."""
    from transformers.pytorch_utils import Conv1D

    return any(
        isinstance(module, Conv1D) and any(_is_layer(target, [name]) for target in targets)
        for name, module in model.named_modules()
    )


def whole_modules(model: Any, *, train_pooler: bool) -> list[str]:
    """The head, and the pooler that it reads, by the end of their names: these are fitted and saved whole."""
    from classifier.engine.pooling import pooling_of

    heads = head_modules(model)
    reads_pooler = pooling_of(model) == "first" and any(
        name.endswith(".pooler") for name, _ in model.named_modules()
    )
    return [*heads, "pooler"] if train_pooler and reads_pooler and "pooler" not in heads else heads


def _require_plain_head(model: Any, whole: Sequence[str]) -> None:
    """Refuse IA³ on a head of several layers: peft cannot merge it there, and merged it has to serve."""
    composite = [name for name in whole if not hasattr(getattr(model, name, None), "weight")]
    if composite:
        raise WrongUse(
            f"IA³ needs a head of one layer; {model.config.model_type}'s {composite[0]} has several. "
            "Choose another method: lora, rslora, dora or lora+."
        )


def _is_layer(name: str, linear: Sequence[str]) -> bool:
    return any(layer == name or layer.endswith(f".{name}") for layer in linear)


class PeftFile(pydantic.BaseModel):
    """What of peft's configuration a recipe takes; anything else is refused rather than ignored."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    peft_type: str = "LORA"
    task_type: str = "SEQ_CLS"
    base_model_name_or_path: str | None = None
    r: int | None = pydantic.Field(None, gt=0)
    lora_alpha: float | None = pydantic.Field(None, gt=0)
    lora_dropout: float | None = pydantic.Field(None, ge=0, lt=1)
    target_modules: list[str] | None = None
    use_rslora: bool = False
    use_dora: bool = False
    bias: str = "none"
    inference_mode: bool = False


def read_peft_file(path: Path) -> dict[str, Any]:
    """The settings of the section ``trainer`` that the file asks for.

    Plain LoRA says nothing of the method: LoRA+ has the same matrices and is a setting.

    Args:
        path: JSON with ``r``, ``lora_alpha``, ``lora_dropout``, ``target_modules``, ``task_type: SEQ_CLS``.

    Raises:
        WrongUse: If it cannot be read, or asks for what a review classifier is not.
    """
    config = _parsed(path)
    if config.task_type != "SEQ_CLS":
        raise WrongUse(f"{path} has the task type {config.task_type}; reviews are classified: SEQ_CLS.")
    if config.peft_type not in _PEFT_TYPES or config.bias != "none":
        raise WrongUse(f"{path}: peft_type must be LORA or IA3, and bias 'none'.")
    method = _PEFT_TYPES[config.peft_type]
    if method == "lora" and config.use_rslora and config.use_dora:
        raise WrongUse(f"{path} asks for use_rslora and use_dora together; choose one.")
    if method == "lora":
        method = "rslora" if config.use_rslora else "dora" if config.use_dora else method
    found = {
        "peft_method": None if method == "lora" else method,
        "lora_r": config.r,
        "lora_alpha": config.lora_alpha,
        "lora_dropout": config.lora_dropout,
        "target_modules": tuple(config.target_modules) if config.target_modules else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _parsed(path: Path) -> PeftFile:
    try:
        return PeftFile.model_validate_json(path.read_bytes())
    except FileNotFoundError as err:
        raise WrongUse(f"There is no file {path}.") from err
    except OSError as err:
        raise WrongUse(f"{path} cannot be read: {err.strerror or err}.") from err
    except pydantic.ValidationError as err:
        first = err.errors(include_url=False, include_input=False)[0]
        name = ".".join(map(str, first["loc"])) or "the file"
        raise WrongUse(f"{path} is no peft configuration for reviews: {name}: {first['msg']}.") from err


def peft_file(method: str, recipe: dict[str, Any]) -> str:
    """The content of a ``peft_config.json`` for a new project.

    Args:
        method: Any but ``none``.
        recipe: ``r``, ``lora_alpha``, ``lora_dropout`` and ``target_modules``.
    """
    # Peft has no word for LoRA+, which is LoRA to it: the settings file says so.
    kind: dict[str, Any] = {"peft_type": "IA3" if method == "ia3" else "LORA", "task_type": "SEQ_CLS"}
    if method in ("rslora", "dora"):
        kind[f"use_{method}"] = True
    if method == "ia3":
        recipe = {"target_modules": recipe["target_modules"]}
    return json.dumps(kind | recipe, indent=2) + "\n"


def _shape(directory: Path, settings: TrainerSettings) -> dict[str, Any]:
    """The recipe settings that describe the adapter."""
    config = json.loads((directory / CONFIG).read_bytes())
    targets = config.get("target_modules") or ()
    shape: dict[str, Any] = {"target_modules": (targets,) if isinstance(targets, str) else tuple(targets)}
    if config.get("peft_type") == "IA3":
        return shape | {"peft_method": "ia3"}
    method = "dora" if config.get("use_dora") else "rslora" if config.get("use_rslora") else "lora"
    if (method, settings.peft_method) == ("lora", "lora+"):
        method = "lora+"  # the same matrices, which learn at other rates
    layers = config.get("layers_to_transform")
    return shape | {
        "adapted_layers": None if layers is None else len([layers] if isinstance(layers, int) else layers),
        "peft_method": method,
        "lora_r": config["r"],
        "lora_alpha": float(config["lora_alpha"]),
        "train_pooler": "pooler" in (config.get("modules_to_save") or ()),
    }
