"""When a nightly run begins, what it tries, and how long it may take."""

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
        description="Start of the nightly run: minute, hour, day, month, weekday (0 or 7: Sunday); in UTC.",
    )
    misfire_grace_seconds: PositiveInt = Field(
        6 * 3600, description="A nightly run that could not start in time still starts within this time."
    )
    poll_seconds: PositiveFloat = Field(
        60, description="Interval between two checks whether labels or drift call for an earlier run."
    )
    min_new_labels: NonNegativeInt = Field(
        200, description="This many labels since the last run start another one; 0: only the schedule does."
    )
    run_on_drift: bool = Field(default=True, description="Whether a report of drift starts an earlier run.")
    recipes: tuple[RecipeSettings, ...] = Field(
        DEFAULT_RECIPES, min_length=1, description="Recipes to try, the most promising first."
    )
    budget_seconds: PositiveFloat = Field(
        3600,
        description="Time budget for training; a recipe that would exceed it is skipped, except the first.",
    )
    new_weight: PositiveFloat = Field(
        2.0, description="Weight of rows that the active adapter was not trained on."
    )
    uncertain_weight: PositiveFloat = Field(
        1.5, description="Weight of rows that were uncertain when scored; multiplied with the other."
    )
    uncertain_margin: NonNegativeFloat = Field(
        0.2, le=1, description="A row is uncertain if its two best probabilities differed by less than this."
    )
    min_train_rows: PositiveInt = Field(40, description="With fewer training rows a run waits.")
    min_class_rows: PositiveInt = Field(5, description="The same for each label.")
    min_validation_rows: PositiveInt = Field(15, description="With fewer validation rows a run waits.")
    enough_validation_rows: PositiveInt = Field(
        60,
        description="With fewer validation rows, recipes are also compared by cross-validation on new "
        "training rows.",
    )
    cross_check_folds: int = Field(3, ge=2, description="Number of folds of that cross-validation.")
    expire_days: PositiveFloat = Field(
        30, description="A queued review that was not labelled for this long is removed from the queue."
    )
    audit_share: float = Field(
        _SHARES.audit,
        gt=0,
        lt=1,
        description="Share of all reviews that is never trained on (audit slice). Never change it later.",
    )
    test_share: float = Field(
        _SHARES.test,
        gt=0,
        lt=1,
        description="Share of the others that is never trained on (test rows). Never change it later.",
    )
    validation_share: float = Field(
        _SHARES.validation,
        gt=0,
        lt=1,
        description="Share of the others that chooses the recipe (validation rows).",
    )
    lease_seconds: PositiveFloat = Field(
        60, description="A trainer without a sign of life for this long may be replaced."
    )
    outage_seconds: NonNegativeFloat = Field(
        600, description="Longest outage of the database that a run waits for."
    )
    scratch: Path | None = Field(
        None, description="Directory of candidates during a run; unset, the system's temporary directory."
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
