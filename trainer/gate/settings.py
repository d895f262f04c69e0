"""How strict the gate is."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt

Metric = Literal["macro_f1", "accuracy"]


class GateSettings(BaseModel):
    """The section ``trainer.gate``; frozen. Shares and differences are in [0, 1]: 0.03 is three points."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: Metric = Field(
        "macro_f1", description="The metric that must improve, and that the floor applies to."
    )
    min_rows: PositiveInt = Field(
        100, description="Minimum number of labelled test and audit rows for a decision."
    )
    min_class_rows: PositiveInt = Field(5, description="The same for each label.")
    floor: float = Field(
        0.4, ge=0, le=1, description="Minimum value of the metric, regardless of the active adapter."
    )
    alpha: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="Probability that candidates that are no better lead to a promotion, over all runs "
        "since the last promotion.",
    )
    spending_exponent: float = Field(
        1.5, gt=1, description="Run n uses a share of alpha in proportion to n to the power of minus this."
    )
    regression_tolerance: NonNegativeFloat = Field(
        0.03, description="Loss of accuracy in a class or slice that is tolerated without a test."
    )
    regression_alpha: float = Field(
        0.05, gt=0, lt=1, description="Probability that any class or slice is called worse by mistake."
    )
    min_slice_rows: PositiveInt = Field(30, description="Smaller slices are not tested separately.")
    calibration_tolerance: NonNegativeFloat = Field(
        0.02, description="Rise of the expected calibration error that is tolerated without a test."
    )
    likelihood_tolerance: NonNegativeFloat = Field(
        0.02, description="The same for the mean negative log-likelihood, in nats."
    )
    calibration_alpha: float = Field(
        0.05, gt=0, lt=1, description="Probability that calibration is called worse by mistake."
    )
    max_calibration_error: float = Field(
        0.2, ge=0, le=1, description="Maximum calibration error of the first adapter of a task."
    )
    resamples: PositiveInt = Field(1000, description="Bootstrap resamples.")
    rollback_alpha: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="Probability that an adapter no worse than its predecessor is ever rolled back.",
    )
