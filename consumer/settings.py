"""How a worker batches, waits and gives up."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from broker.settings import TopicName
from consumer.embeddings import EmbeddingSettings


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("must not name a task twice")
    return names


class BreakerSettings(BaseModel):
    """When so many messages are invalid that the publisher, not a message, must be broken."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    window_messages: int = Field(
        default=1_000, ge=1, description="How many of the latest messages of each partition are looked at."
    )
    window_seconds: float = Field(
        default=300, gt=0, description="A partition that delivered nothing for this long is not looked at."
    )
    max_invalid_share: float = Field(
        default=0.9, gt=0, le=1, description="Stop when a greater share of them is invalid; 1: never."
    )
    max_invalid_run: int = Field(default=2_000, ge=0, description="Stop after so many in a row; 0: never.")


class ConsumerSettings(BaseModel):
    """The ``consumer`` section of the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: Annotated[tuple[str, ...], AfterValidator(_distinct)] = Field(
        default=("sentiment",), min_length=1, description="Every review is scored for each of these."
    )
    max_batch_tokens: int = Field(
        default=32_768, ge=1, description="A batch is closed when its texts have about so many tokens."
    )
    max_batch_reviews: int = Field(default=4_096, ge=1, description="A batch is closed at so many reviews.")
    max_batch_bytes: int = Field(
        default=8 * 1024 * 1024,
        ge=1,
        description="A batch is closed when its records take about so many bytes of memory.",
    )
    max_wait_seconds: float = Field(
        default=0.2, gt=0, description="A batch is closed when its oldest review has waited this long."
    )
    queue_batches: int = Field(default=2, ge=1, description="How many batches may wait between two stages.")
    max_message_bytes: int = Field(
        default=4 * 1024 * 1024,
        ge=1,
        description="Longer messages become dead letters with their first 64 KiB, size and SHA-256.",
    )
    adapter_poll_seconds: float = Field(
        default=2, gt=0, description="How often to look whether another adapter was activated."
    )
    shutdown_grace_seconds: float = Field(
        default=30, gt=0, description="How long to finish what is in hand after SIGTERM."
    )
    idle_patience_seconds: float = Field(
        default=120,
        gt=0,
        description="With --until-idle: how long unread records in the hands of other workers may stay where "
        "they are before the command fails; more than kafka.session_timeout_ms.",
    )
    retry_max_seconds: float = Field(
        default=30, gt=0, description="The longest pause between two attempts while a service is away."
    )
    adapter_cache: Path | None = Field(
        default=None,
        description="Where adapters are kept on this machine; without it, the user's cache folder.",
    )
    dead_letter_topic: TopicName | None = Field(
        default=None,
        description="Dead letters go to this topic as well, with Kafka Connect's headers; unset: to none.",
    )
    read_labels: bool = Field(
        default=True, description="Whether workers read the labels topic beside the reviews."
    )
    clock_tolerance_seconds: float = Field(
        default=300,
        ge=0,
        le=86_400,
        description="By how much clocks may differ. A review that is dated later than Kafka had it by more "
        "gets Kafka's time; such a label is a dead letter.",
    )
    breaker: BreakerSettings = Field(default_factory=BreakerSettings)
    embeddings: EmbeddingSettings = Field(default_factory=EmbeddingSettings)

    @property
    def clock_tolerance(self) -> timedelta:
        """By how much clocks may differ."""
        return timedelta(seconds=self.clock_tolerance_seconds)
