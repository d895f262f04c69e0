"""Whether and where a worker can be watched."""

from pydantic import BaseModel, ConfigDict, Field


class MetricsSettings(BaseModel):
    """The ``metrics`` section of the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    port: int | None = Field(
        default=None,
        ge=1,
        le=65_535,
        description="Where /metrics, /healthz and /readyz are served; unset, nowhere. The second of several "
        "workers takes the next port, and so on.",
    )
    address: str = Field(
        default="127.0.0.1",
        description="The interface to serve on; 0.0.0.0 for all. There is no password: keep it inside.",
    )
    stalled_after_seconds: float = Field(
        default=180,
        gt=0,
        description="/healthz fails when the main loop has not turned for so long; more than any time-out "
        "that it may have to wait for.",
    )
