"""How an adapter is fitted."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt


class TrainerSettings(BaseModel):
    """The section ``trainer``: a recipe; frozen, and recorded in what it makes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lora_r: PositiveInt = Field(8, description="Rank of the LoRA matrices.")
    lora_alpha: PositiveFloat = Field(16, description="LoRA's updates are scaled by alpha / r.")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="Dropout in front of the LoRA matrices.")
    base_dropout: bool = Field(
        default=False,
        description="Keep the base's own dropout while fitting; on a CPU drawing it takes 40 % of the time.",
    )
    target_modules: tuple[str, ...] = Field(
        (),
        description="Linear layers to adapt, by the end of their names; empty: query, value, key and dense.",
    )
    train_pooler: bool = Field(
        default=True, description="Fit the base's pooler too, where the head reads it (BERT); saved whole."
    )
    epochs: PositiveInt = Field(
        3, description="Passes over the training rows; the best on validation is kept."
    )
    batch_size: PositiveInt = Field(16, description="Rows per optimiser step.")
    learning_rate: PositiveFloat = Field(5e-4, description="Peak rate, reached after the warm-up.")
    warmup_fraction: float = Field(
        0.06, ge=0, lt=1, description="Share of the steps in which the rate rises."
    )
    weight_decay: NonNegativeFloat = Field(0.01, description="AdamW's decay.")
    max_gradient_norm: PositiveFloat = Field(1.0, description="Longer gradients are scaled down to it.")
    max_length_tokens: int = Field(256, ge=8, description="Longer training texts are cut.")
    seed: int = Field(0, ge=0, description="Seed of initialisation, order and dropout.")
    save_precision: Literal["bf16", "fp32"] = Field(
        "bf16", description="Number format of the saved adapter; bf16 halves it."
    )
