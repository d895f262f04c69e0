"""The sections of the settings about metrics and alerts."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from broker.settings import TopicName


def _http(value: SecretStr) -> SecretStr:
    address = urlsplit(value.get_secret_value())
    if address.scheme not in {"http", "https"} or not address.hostname:
        raise ValueError("must be an http or https address")
    return value


class AlertSettings(BaseModel):
    """The ``alerts`` section of the settings; alerts are logged in any case."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    topic: TopicName = Field(
        default="alerts",
        description="The Kafka topic of alerts, if Kafka is configured.",
    )
    webhook_url: Annotated[SecretStr, AfterValidator(_http)] | None = Field(
        default=None, description="Alerts are posted to this address as JSON."
    )
    webhook_secret: SecretStr | None = Field(
        default=None, description="Signs alerts: HMAC-SHA256 of the time, a dot and the body."
    )
    webhook_timeout_seconds: float = Field(default=10, gt=0, description="Time-out of one attempt.")
    webhook_attempts: int = Field(
        default=3, ge=1, description="Attempts in a row, with growing pauses; the outbox retries later."
    )


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
