"""Which reviews are queued to be labelled, and how many."""

from typing import Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

StrategyName = Literal[
    "balanced-draw", "power-margin", "margin", "entropy", "diverse-margin", "class-balanced", "random"
]


class SelectionSettings(BaseModel):
    """The section ``trainer.selection``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: StrategyName = Field(
        "balanced-draw",
        description="balanced-draw (drawn evenly over the predicted labels, with a uniform share), "
        "power-margin (drawn in proportion to uncertainty, with a uniform share), margin or "
        "entropy (the most uncertain first), diverse-margin (uncertain, one of each cluster), "
        "class-balanced, or random.",
    )
    uniform_share: float = Field(
        0.4,
        ge=0,
        le=1,
        description="balanced-draw and power-margin: share of the uniform draw over all reviews.",
    )
    exponent: NonNegativeFloat | None = Field(
        None,
        description="The other share is in proportion to (1 - margin) to this power; unset, 0 for "
        "balanced-draw and 2 for power-margin.",
    )
    half_life_days: PositiveFloat | None = Field(
        None, description="A review this much older than the newest counts half; unset, age does not matter."
    )
    skip_near_duplicates: bool = Field(
        default=True, description="Leave out near-duplicates of selected reviews."
    )
    items_per_night: NonNegativeInt = Field(150, description="Reviews that the strategy queues per run.")
    audit_items_per_night: NonNegativeInt = Field(
        30, description="Reviews of the audit slice that are queued per run: unbiased, never trained on."
    )
    audit_window_days: PositiveInt = Field(7, description="Audit items are drawn evenly from this many days.")
