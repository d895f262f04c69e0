"""When a night begins, what it tries, and how long it may take."""

from pathlib import Path
from typing import Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from reviews.slices import SliceShares

_SHARES = SliceShares()


class RecipeSettings(BaseModel):
    """One way to fit a candidate; everything else is as in the section ``trainer``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=64, description="For people, and in the record of the run.")
    start: Literal["active", "base"] = Field(
        description="active: go on from the adapter that serves; base: from fresh matrices."
    )
    replay: bool = Field(
        description="Whether rows that the active adapter was trained on are trained on again."
    )
    learning_rate: PositiveFloat = Field(description="Peak rate.")


# What replay and a warm start are worth differs from night to night: measure, don't assume. The most
# promising come first, since a short budget cuts the list at its end.
DEFAULT_RECIPES = (
    RecipeSettings(name="warm-all-slow", start="active", replay=True, learning_rate=1e-4),
    RecipeSettings(name="base-all", start="base", replay=True, learning_rate=5e-4),
    RecipeSettings(name="warm-all-fast", start="active", replay=True, learning_rate=5e-4),
    RecipeSettings(name="warm-new-slow", start="active", replay=False, learning_rate=1e-4),
)


class NightlySettings(BaseModel):
    """The section ``trainer.nightly``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cron: str = Field(
        "0 2 * * *",
        description="When a night begins: minute, hour, day, month, weekday (0 or 7: Sunday); in UTC.",
    )
    misfire_grace_seconds: PositiveInt = Field(
        6 * 3600, description="A night that could not begin in time still begins within this."
    )
    poll_seconds: PositiveFloat = Field(
        60, description="How often to look whether labels or drift ask for a run before the night."
    )
    min_new_labels: NonNegativeInt = Field(
        200, description="So many answers since the last run start another one; 0: the night alone does."
    )
    run_on_drift: bool = Field(
        default=True, description="Whether a drift report that says drift starts a run before the night."
    )
    recipes: tuple[RecipeSettings, ...] = Field(
        DEFAULT_RECIPES, min_length=1, description="What is tried, the most promising first."
    )
    budget_seconds: PositiveFloat = Field(
        3600,
        description="Time for fitting; a recipe that would not end in it is left out, but for the first.",
    )
    new_weight: PositiveFloat = Field(2.0, description="What a row counts that the active adapter never saw.")
    uncertain_weight: PositiveFloat = Field(
        1.5, description="What a row counts that was uncertain when it was scored; multiplies the other."
    )
    uncertain_margin: NonNegativeFloat = Field(
        0.2, le=1, description="Uncertain: the two best labels were less than this apart."
    )
    min_train_rows: PositiveInt = Field(40, description="With fewer rows to train on, a run waits.")
    min_class_rows: PositiveInt = Field(5, description="The same for each label.")
    min_validation_rows: PositiveInt = Field(15, description="With fewer rows to choose by, a run waits.")
    enough_validation_rows: PositiveInt = Field(
        60, description="With fewer, recipes are compared by cross-checks on training rows as well."
    )
    cross_check_folds: int = Field(3, ge=2, description="How often each recipe is fitted for a cross-check.")
    expire_days: PositiveFloat = Field(
        30, description="A queued review that nobody answered for so long is taken out of the queue."
    )
    audit_share: float = Field(
        _SHARES.audit, gt=0, lt=1, description="Of all reviews: never trained on. Never change it later."
    )
    test_share: float = Field(
        _SHARES.test, gt=0, lt=1, description="Of the others: never trained on. Never change it later."
    )
    validation_share: float = Field(
        _SHARES.validation, gt=0, lt=1, description="Of the others: to choose the recipe by."
    )
    lease_seconds: PositiveFloat = Field(
        60, description="A trainer that shows no sign of life for so long may be replaced."
    )
    outage_seconds: NonNegativeFloat = Field(
        600, description="A run waits for a database that is away for no longer than this."
    )
    scratch: Path | None = Field(
        None, description="Where candidates lie while they are measured; unset, the system's own place."
    )

    @model_validator(mode="after")
    def _leave_rows_to_train_on(self) -> Self:
        if self.test_share + self.validation_share >= 1:
            raise ValueError("test_share and validation_share leave nothing to train on: less than 1 in all")
        return self

    @property
    def shares(self) -> SliceShares:
        """How large the slices are."""
        return SliceShares(self.audit_share, self.test_share, self.validation_share)
