"""How fast which weights learn: the rate over the steps, and AdamW's groups of weights."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from trainer.settings import TrainerSettings


def rate_at(step: int, steps: int, settings: "TrainerSettings") -> float:
    """The learning rate of a step (from 0): a linear rise over the warm-up, then a linear fall to zero."""
    warmup = max(1, math.ceil(steps * settings.warmup_fraction))
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    return settings.learning_rate * max(0.0, (steps - step) / max(1, steps - warmup))


def optimiser(trainable: Mapping[str, torch.nn.Parameter], settings: "TrainerSettings") -> torch.optim.AdamW:
    """AdamW over the trainable weights; each group's ``ratio`` multiplies the rate of the step.

    ``lora+`` lets B learn ``loraplus_ratio`` times faster than A (Hayou, Ghosh, Yu: LoRA+, ICML 2024).

    Args:
        trainable: Weights by name.
        settings: The recipe.
    """
    ratio = settings.loraplus_ratio if settings.peft_method == "lora+" else 1.0
    fast = [value for name, value in trainable.items() if "lora_B" in name and ratio != 1.0]
    chosen = {id(value) for value in fast}
    plain = [value for value in trainable.values() if id(value) not in chosen]
    groups = [
        {"params": values, "ratio": its_ratio}
        for values, its_ratio in ((plain, 1.0), (fast, ratio))
        if values
    ]
    # One fused kernel over all weights; the same numbers on every run.
    return torch.optim.AdamW(
        groups, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )


def set_rate(adamw: torch.optim.AdamW, rate: float) -> None:
    """Let the next step learn at this rate."""
    for group in adamw.param_groups:
        group["lr"] = rate * group["ratio"]
