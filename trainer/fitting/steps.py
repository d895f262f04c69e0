"""What one optimiser step is made of: the order of rows, the loss, the rates and the number formats."""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trainer.settings import TrainerSettings

_CHUNK_BATCHES = 50


def length_grouped_batches(
    lengths: npt.NDArray[np.integer], batch_size: int, seed: int, epoch: int
) -> list[npt.NDArray[np.int64]]:
    """One epoch of batches, each index once, the same for the same seed and epoch.

    Rows are shuffled, cut into chunks of 50 batches and sorted by length within each: a batch then needs
    little padding, while which rows meet still changes with every epoch. Batches are shuffled at the end.

    Args:
        lengths: integers (rows), tokens of each row.
        batch_size: Rows in a batch; the last may be smaller.
        seed: Of the whole run.
        epoch: Which epoch, from 0.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    batches: list[npt.NDArray[np.int64]] = []
    for start in range(0, len(order), batch_size * _CHUNK_BATCHES):
        chunk = order[start : start + batch_size * _CHUNK_BATCHES]
        chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        batches += [chunk[at : at + batch_size] for at in range(0, len(chunk), batch_size)]
    return [batches[index] for index in random.permutation(len(batches))]


def class_weights(labels: npt.NDArray[np.integer], classes: int, mode: str) -> npt.NDArray[np.float32]:
    """float32 (classes): what a row of each class weighs; 1 on average over the rows.

    Args:
        labels: integers (rows).
        classes: How many classes there are; one without rows weighs 1.
        mode: ``none`` for equal weights, ``balanced`` for rows / (classes with rows · rows of the class).
    """
    counts = np.bincount(labels, minlength=classes)
    if mode == "none":
        return np.ones(classes, np.float32)
    present = max(1, int((counts > 0).sum()))
    return np.where(counts > 0, len(labels) / (present * np.maximum(counts, 1)), 1.0).astype(np.float32)


def summed_loss(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, smoothing: float
) -> torch.Tensor:
    """float32 (): the weighted sum of the rows' cross-entropies, in nats.

    Args:
        logits: (rows, classes).
        targets: int64 (rows).
        weights: float32 (rows).
        smoothing: Share of a label's weight that is spread over all classes.
    """
    each = torch.nn.functional.cross_entropy(
        logits.float(), targets, reduction="none", label_smoothing=smoothing
    )
    return (each * weights).sum()


def rate_at(step: int, steps: int, settings: TrainerSettings) -> float:
    """The learning rate of a step (from 0): a linear rise over the warm-up, then a linear fall to zero."""
    warmup = max(1, math.ceil(steps * settings.warmup_fraction))
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    return settings.learning_rate * max(0.0, (steps - step) / max(1, steps - warmup))


def optimiser(trainable: Mapping[str, torch.nn.Parameter], settings: TrainerSettings) -> torch.optim.AdamW:
    """AdamW over the trainable weights; each group's ``ratio`` multiplies the rate of the step.

    ``lora+`` lets B learn ``loraplus_ratio`` times faster than A (Hayou, Ghosh, Yu: LoRA+, ICML 2024).
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


def autocasting(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Matrix products in that format; nothing changes for fp32."""
    reduced = dtype != torch.float32
    return torch.autocast(device.type, dtype=dtype if reduced else torch.bfloat16, enabled=reduced)


def hold_frozen(model: Any, dtype: torch.dtype, *, is_dora: bool) -> None:
    """Keep the frozen matrices in the format that they are multiplied in.

    Autocast keeps no cast of a frozen weight: it would be cast again in every pass. What is fitted stays
    fp32, and adapters take their input as it comes instead of widening it.
    """
    if dtype == torch.float32 or is_dora:
        return
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and not module.weight.requires_grad:
            module.to(dtype)
        if hasattr(module, "cast_input_dtype_enabled"):
            module.cast_input_dtype_enabled = False
