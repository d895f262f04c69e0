"""Which layers of a base model LoRA adapts, and which are fitted whole."""

from typing import TYPE_CHECKING, Any

from reviews.errors import WrongUse

if TYPE_CHECKING:
    from trainer.settings import TrainerSettings

# Linear layers of an encoder block, by the end of their names, where a family has names of its own.
_TARGETS = {
    "distilbert": ("q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"),
    "deberta-v2": ("query_proj", "key_proj", "value_proj", "dense"),
    "deberta": ("in_proj", "dense"),
    "modernbert": ("Wqkv", "Wo", "Wi"),
}
_DEFAULT_TARGETS = ("query", "key", "value", "dense")
# `dense` is also what the pooler and RoBERTa's head call their layers: those are fitted whole or not at all.
_NOT_ADAPTED = r"(.*\.)?(pooler|classifier|pre_classifier|head)(\..*)?"
_WHOLE = ("classifier", "pre_classifier", "score", "head")


def lora_config(model: Any, settings: "TrainerSettings") -> Any:
    """Peft's configuration for a sequence classifier.

    Raises:
        WrongUse: If no layer of the model has one of the names asked for.
    """
    from peft import LoraConfig, TaskType

    targets = list(settings.target_modules or _TARGETS.get(model.config.model_type, _DEFAULT_TARGETS))
    linear = linear_names(model)
    unknown = [name for name in targets if not any(_ends_with(layer, name) for layer in linear)]
    if unknown:
        valid = sorted({layer.rsplit(".", 1)[-1] for layer in linear})
        raise WrongUse(
            f"{model.config.model_type} has no layer named {', '.join(unknown)}; it has {', '.join(valid)}."
        )
    return LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=targets,
        exclude_modules=_NOT_ADAPTED,
        modules_to_save=whole_modules(model, train_pooler=settings.train_pooler),
    )


def linear_names(model: Any) -> list[str]:
    """Names of the linear layers that LoRA may adapt."""
    import re

    import torch

    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and not re.fullmatch(_NOT_ADAPTED, name)
    ]


def whole_modules(model: Any, *, train_pooler: bool) -> list[str]:
    """The head, and the pooler that it reads, by the end of their names: these are fitted and saved whole."""
    present = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
    wanted = (*_WHOLE, "pooler") if train_pooler else _WHOLE
    return [name for name in wanted if name in present]


def _ends_with(layer: str, name: str) -> bool:
    return layer == name or layer.endswith(f".{name}")
