"""Settings of drift reports and the drift watch."""

from pydantic import BaseModel, ConfigDict, Field


class WatchSettings(BaseModel):
    """How the online detector watches the stream."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    average_run_length: float = Field(
        default=1_000_000, ge=10_000, description="Mean number of reviews between two false alarms."
    )
    persistence_reviews: int = Field(
        default=30, ge=10, description="A score raises an alarm when it stays high for this many reviews."
    )
    cool_down_reviews: int = Field(
        default=5_000, ge=0, description="After an alarm the watch is silent for this many reviews."
    )
    calibration_streams: int = Field(
        default=60,
        ge=5,
        description="Number of simulated streams of 10,000 reviews that calibrate the threshold.",
    )
    poll_seconds: float = Field(
        default=2, gt=0, description="Interval between two checks for newly stored reviews."
    )


class DriftSettings(BaseModel):
    """The ``drift`` section of the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reference_reviews: int = Field(
        default=5_000,
        ge=100,
        description="Size of the reference: the first reviews since the active adapter's promotion.",
    )
    reference_days: int = Field(
        default=7,
        ge=0,
        description="Or the first days since then, if that is more: one day until this many days have "
        "passed.",
    )
    least_reviews: int = Field(
        default=200, ge=50, description="With fewer reviews in a window, the verdict is 'unknown'."
    )
    sample_reviews: int = Field(
        default=20_000,
        ge=500,
        description="A longer window or reference is sampled down to this many reviews.",
    )
    false_alarm_rate: float = Field(
        default=0.01,
        gt=0,
        lt=1,
        description="Probability that a report without drift shows drift, over all measures.",
    )
    queue_reviews: int = Field(
        default=50,
        ge=0,
        le=100,
        description="An alarm queues this many of the new reviews to be labelled.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of permutations and samples.")
    watch: WatchSettings = Field(default_factory=WatchSettings)
