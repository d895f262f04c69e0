"""Settings of the consumer: sizes of batches, waiting times, limits."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from broker.settings import TopicName
from consumer.embeddings import EmbeddingSettings


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("must not name a task twice")
    return names


class BreakerSettings(BaseModel):
    """When the circuit breaker stops a worker, because most messages are invalid."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    window_messages: int = Field(
        default=1_000, ge=1, description="Number of latest messages of each partition that are counted."
    )
    window_seconds: float = Field(
        default=300, gt=0, description="A partition that delivered nothing for this long is not counted."
    )
    max_invalid_share: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="Stop when a greater share of the counted messages is invalid; 1: never.",
    )
    max_invalid_run: int = Field(
        default=2_000, ge=0, description="Stop after this many invalid messages in a row; 0: never."
    )


class ConsumerSettings(BaseModel):
    """The ``consumer`` section of the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: Annotated[tuple[str, ...], AfterValidator(_distinct)] = Field(
        default=("sentiment",), min_length=1, description="Every review is scored for each of these."
    )
    max_batch_tokens: int = Field(
        default=32_768, ge=1, description="A batch is closed when its texts have about this many tokens."
    )
    max_batch_reviews: int = Field(default=4_096, ge=1, description="A batch is closed at this many reviews.")
    max_batch_bytes: int = Field(
        default=8 * 1024 * 1024,
        ge=1,
        description="A batch is closed when its records take about this many bytes of memory.",
    )
    max_wait_seconds: float = Field(
        default=0.2, gt=0, description="A batch is closed when its oldest review has waited this long."
    )
    queue_batches: int = Field(
        default=2, ge=1, description="Number of batches that may wait between two stages."
    )
    max_message_bytes: int = Field(
        default=4 * 1024 * 1024,
        ge=1,
        description="Longer messages become dead letters with their first 64 KiB, size and SHA-256.",
    )
    adapter_poll_seconds: float = Field(
        default=2, gt=0, description="Interval between two checks for a newly activated adapter."
    )
    shutdown_grace_seconds: float = Field(
        default=30, gt=0, description="Time to finish the batches in progress after SIGTERM."
    )
    idle_patience_seconds: float = Field(
        default=120,
        gt=0,
        description="With --until-idle: the command fails if other workers hold unread records and store "
        "none for this long; must be more than kafka.session_timeout_ms.",
    )
    retry_max_seconds: float = Field(
        default=30, gt=0, description="Longest pause between two attempts while a service is unavailable."
    )
    adapter_cache: Path | None = Field(
        default=None,
        description="Directory of cached adapters; unset, in the user's cache directory.",
    )
    dead_letter_topic: TopicName | None = Field(
        default=None,
        description="Dead letters are also published to this topic, with Kafka Connect's headers; unset: "
        "not published.",
    )
    read_labels: bool = Field(default=True, description="Whether workers read the labels topic as well.")
    waiting_label_days: float = Field(
        default=30,
        gt=0,
        le=36_500,
        description="A label of the topic whose review did not come for this long becomes a dead letter.",
    )
    clock_tolerance_seconds: float = Field(
        default=300,
        ge=0,
        le=86_400,
        description="Tolerated difference of clocks. A review dated later than its Kafka timestamp by more "
        "than this gets the Kafka timestamp; such a label becomes a dead letter.",
    )
    breaker: BreakerSettings = Field(default_factory=BreakerSettings)
    embeddings: EmbeddingSettings = Field(default_factory=EmbeddingSettings)

    @property
    def waiting_label_patience(self) -> timedelta:
        """How long a label of the labels topic waits for its review."""
        return timedelta(days=self.waiting_label_days)

    @property
    def clock_tolerance(self) -> timedelta:
        """By how much clocks may differ."""
        return timedelta(seconds=self.clock_tolerance_seconds)


class SinkSettings(BaseModel):
    """One section ``[[sinks]]`` of the settings: a topic that scored rows are published to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    topic: TopicName = Field(
        default="scored-reviews", description="The topic; it identifies the sink and its position."
    )
    format: Literal["json", "avro"] = Field(
        default="json", description="json, or avro with the schema in the schema registry."
    )
    cloud_events: bool = Field(
        default=False, description="Whether each message has the headers of a CloudEvent in binary mode."
    )
    start: Literal["earliest", "latest"] = Field(
        default="earliest",
        description="Whether a new sink begins with all that is stored, or with what comes from now on.",
    )
