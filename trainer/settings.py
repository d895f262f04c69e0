"""How an adapter is fitted."""

from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from trainer.gate.settings import GateSettings
from trainer.nightly.settings import NightlySettings
from trainer.selection.settings import SelectionSettings

PeftMethod = Literal["lora", "rslora", "dora", "lora+", "ia3", "none"]


class TrainerSettings(BaseModel):
    """The section ``trainer``: a recipe, recorded in what it makes, and sections about what is around it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def recipe(self) -> dict[str, Any]:
        """What decides how an adapter is fitted, ready for JSON; the sections around it are left out."""
        sections = {name for name in type(self).model_fields if isinstance(getattr(self, name), BaseModel)}
        return self.model_dump(mode="json", exclude=sections)

    peft_method: PeftMethod = Field(
        "lora",
        description="lora, rslora (scaled by alpha / sqrt(r)), dora (magnitudes are separate), lora+ (B "
        "learns faster), ia3 (scales activations), or none: full fine-tuning, for comparison.",
    )
    lora_r: PositiveInt = Field(8, description="Rank of the LoRA matrices.")
    lora_alpha: PositiveFloat = Field(16.0, description="LoRA's updates are scaled by alpha / r.")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="Dropout in front of the LoRA matrices.")
    loraplus_ratio: PositiveFloat = Field(16.0, description="lora+: B's learning rate over A's.")
    base_dropout: bool = Field(
        default=False,
        description="Use the base's own dropout in training; on a CPU it takes 40 % of the time.",
    )
    target_modules: tuple[str, ...] = Field(
        (),
        description="Linear layers to adapt, by the end of their names; empty: query, key, value and dense.",
    )
    train_pooler: bool = Field(
        default=True,
        description="Train the base's pooler too, if the head reads it (BERT); it is saved whole.",
    )
    epochs: PositiveInt = Field(
        3, description="Passes over the training rows; the epoch with the best validation result is kept."
    )
    patience_epochs: PositiveInt | None = Field(
        None, description="Stop after this many epochs without a better validation macro-F1; unset, never."
    )
    batch_size: PositiveInt = Field(16, description="Rows per forward pass, over all processes.")
    accumulation_steps: PositiveInt = Field(
        1, description="Batches per optimiser step (gradient accumulation)."
    )
    learning_rate: PositiveFloat = Field(5e-4, description="Peak rate, reached after the warm-up.")
    warmup_fraction: float = Field(
        0.06, ge=0, lt=1, description="Share of the steps in which the learning rate rises."
    )
    weight_decay: NonNegativeFloat = Field(0.01, description="Weight decay of AdamW.")
    max_gradient_norm: PositiveFloat = Field(1.0, description="Larger gradients are clipped to this norm.")
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of a label's weight that is spread over all classes (label smoothing).",
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced: all classes have the same total weight."
    )
    gradient_checkpointing: bool = Field(
        default=False,
        description="Recompute activations instead of storing them: slower, but needs less memory.",
    )
    max_length_tokens: int = Field(256, ge=8, description="Longer training texts are cut.")
    seed: NonNegativeInt = Field(0, description="Seed of initialisation, order and dropout.")
    checkpoint_steps: PositiveInt = Field(
        50, description="Optimiser steps between two checkpoints; --resume continues at the last one."
    )
    save_precision: Literal["bf16", "fp32"] = Field(
        "bf16", description="Number format of the saved adapter; bf16 halves it."
    )
    # Not part of the recipe: who makes the gate stricter, or chooses otherwise, may still resume a run.
    gate: GateSettings = Field(default_factory=GateSettings, exclude=True)
    selection: SelectionSettings = Field(
        default_factory=SelectionSettings,
        exclude=True,
        description="Which reviews are queued to be labelled.",
    )
    nightly: NightlySettings = Field(
        default_factory=NightlySettings,
        exclude=True,
        description="When a nightly run begins and what it tries.",
    )
