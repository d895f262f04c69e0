"""How strict the gate is."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt

Metric = Literal["macro_f1", "accuracy"]


class GateSettings(BaseModel):
    """The section ``trainer.gate``; frozen. Shares and differences are in [0, 1]: 0.03 is three points."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: Metric = Field("macro_f1", description="What must improve, and what the floor is about.")
    min_rows: PositiveInt = Field(
        100, description="Labelled test and audit rows without which nothing is judged."
    )
    min_class_rows: PositiveInt = Field(5, description="The same for each label.")
    floor: float = Field(
        0.4, ge=0, le=1, description="Least value of the metric, whatever the active one reaches."
    )
    alpha: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="Chance that candidates that are no better get one of them promoted, over all nights "
        "since the last promotion.",
    )
    spending_exponent: float = Field(
        1.5, gt=1, description="Night n may spend a share of alpha in proportion to n to the minus this."
    )
    regression_tolerance: NonNegativeFloat = Field(
        0.03, description="A class or slice may lose so much of its accuracy without being asked for proof."
    )
    regression_alpha: float = Field(
        0.05, gt=0, lt=1, description="Chance that any of the classes and slices is called worse by mistake."
    )
    min_slice_rows: PositiveInt = Field(30, description="Smaller slices are not judged on their own.")
    calibration_tolerance: NonNegativeFloat = Field(
        0.02, description="How much the expected calibration error may rise without being asked for proof."
    )
    likelihood_tolerance: NonNegativeFloat = Field(
        0.02, description="The same for the mean negative log-likelihood, in nats."
    )
    calibration_alpha: float = Field(
        0.05, gt=0, lt=1, description="Chance that calibration is called worse by mistake."
    )
    max_calibration_error: float = Field(
        0.2, ge=0, le=1, description="Greatest calibration error of a first adapter, which replaces none."
    )
    resamples: PositiveInt = Field(1000, description="Bootstrap resamples.")
    rollback_alpha: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="Chance that an adapter no worse than its predecessor is ever rolled back.",
    )
