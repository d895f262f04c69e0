"""The head of a classifier, as its class in transformers says, and which weights an answer depends on."""

from collections.abc import Mapping
from typing import Any

from reviews.errors import ModelError


def head_modules(model: Any) -> list[str]:
    """The modules that read what the body of a model makes of a text, in the model's order.

    They are what the model has beside its body, by whatever name (``classifier``, ``score``,
    ``classification_head``, ``logits_proj`` …), and what the body ends with where no file brings it: BERT's
    pooler, of a base that was trained on words alone.

    Args:
        model: A sequence classifier, as :func:`classifier.merging.load_base` gives it.

    Raises:
        ModelError: If the base lacks weights of its own layers.
    """
    beside = [
        name
        for name, module in model.named_children()
        if name != model.base_model_prefix and next(module.parameters(), None) is not None
    ]
    prefix = f"{model.base_model_prefix}."
    orphans = {
        name: value
        for name, value in model.named_parameters()
        if name in model.unbrought and name.startswith(prefix)
    }
    ends = dict.fromkeys(
        name.removeprefix(prefix).partition(".")[0] for name in weights_of_answers(model, orphans)
    )
    for end in ends:
        own = {name for name, _ in model.named_parameters() if name.startswith(f"{prefix}{end}.")}
        if not own <= model.unbrought:
            lost = sorted(own & model.unbrought)
            raise ModelError(f"The base model lacks {lost[0]}, a weight of its own layers; fetch it again.")
    return beside + list(ends)


def weights_of_answers(model: Any, weights: Mapping[str, Any]) -> list[str]:
    """Which of some weights the logits are computed from: those that have a gradient.

    Args:
        model: A sequence classifier, peft's wrapper around it or not.
        weights: Parameters of the model by name.
    """
    import torch

    if not weights:
        return []
    fitted = [(value, value.requires_grad) for value in model.parameters()]
    model.requires_grad_(requires_grad=False)
    for value in weights.values():
        value.requires_grad_(requires_grad=True)
    with torch.enable_grad():
        logits = model(input_ids=_short_row(model.config)).logits
    found: tuple[Any, ...] = (None,) * len(weights)
    if logits.requires_grad:
        found = torch.autograd.grad(logits.sum(), list(weights.values()), allow_unused=True)
    for value, was_fitted in fitted:
        value.requires_grad_(requires_grad=was_fitted)
    return [name for name, gradient in zip(weights, found, strict=True) if gradient is not None]


def _short_row(config: Any) -> Any:
    """int64 (1, 4): a row that any model reads; the last id ends a text, where there is such an id."""
    import torch

    text = config.get_text_config()
    word = next(number for number in range(3) if number not in (text.pad_token_id, text.eos_token_id))
    end = text.eos_token_id if isinstance(text.eos_token_id, int) else word
    return torch.tensor([[word, word, word, end]])
