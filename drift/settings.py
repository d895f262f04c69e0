"""When a change counts as drift."""

from pydantic import BaseModel, ConfigDict, Field


class WatchSettings(BaseModel):
    """How the online detector watches the stream."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    average_run_length: float = Field(
        default=1_000_000, ge=10_000, description="Reviews between two false alarms, on average."
    )
    persistence_reviews: int = Field(
        default=30, ge=10, description="A score raises an alarm when it stays high for so many reviews."
    )
    cool_down_reviews: int = Field(
        default=5_000, ge=0, description="After an alarm the watch is silent for so many reviews."
    )
    calibration_streams: int = Field(
        default=60, ge=5, description="Streams of 10,000 reviews that the threshold is found with."
    )
    poll_seconds: float = Field(default=2, gt=0, description="How often to look for newly stored reviews.")


class DriftSettings(BaseModel):
    """The ``drift`` section of the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reference_reviews: int = Field(
        default=5_000,
        ge=100,
        description="The first reviews since the active adapter's promotion: what others are held against.",
    )
    reference_days: int = Field(
        default=7,
        ge=0,
        description="Or the first days since then, where that is later: one day until so many have passed.",
    )
    least_reviews: int = Field(
        default=200, ge=50, description="With fewer reviews in a window, the verdict is 'unknown'."
    )
    sample_reviews: int = Field(
        default=20_000,
        ge=500,
        description="Of a longer window or reference, so many reviews are drawn.",
    )
    false_alarm_rate: float = Field(
        default=0.01, gt=0, lt=1, description="Of a report on a stream without drift, all measures together."
    )
    queue_reviews: int = Field(
        default=50,
        ge=0,
        le=100,
        description="An alarm queues so many reviews of what is new to be labelled.",
    )
    seed: int = Field(default=0, ge=0, description="Of permutations and samples.")
    watch: WatchSettings = Field(default_factory=WatchSettings)
