"""One row of ``scored_reviews`` as a sink publishes it: the message format of the topic, versioned.

The Avro schema beside this file says the same; a test holds them together. Within a version fields are only
added, each with a default, so that readers of today read the messages of tomorrow.
"""

from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1

Change = Literal["scored", "rescored", "labelled", "withdrawn", "erased"]
"""Why a row is published: it is new, another adapter's prediction took the place of the one before, people
said something about it, its publisher withdrew the review, or the review was erased (a message without a
value)."""


class ScoredRow(BaseModel):
    """A version of a review with the prediction of one task, as the database had it at a moment.

    ``record`` and ``adapter_version`` identify a row: published again, it has the same two. Of several
    messages with one ``record`` and ``task``, the one with the greatest ``as_of`` counts. A withdrawal is
    about the review as a whole: it has no task and no prediction.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", title="ScoredRow")

    schema_version: int = Field(SCHEMA_VERSION, description="The version of this format.")
    change: Change = Field(description="Why the row is published: scored, rescored, labelled or withdrawn.")
    event_id: str = Field(description="The same for each copy of a message that is published more than once.")
    as_of: datetime = Field(description="The database had the row like this at this time or later (UTC).")
    record: int = Field(description="Identifies the version of the review, or the withdrawal.")
    review_id: str = Field(description="The publisher's id of the review; also the key of the message.")
    text: str | None = Field(None, description="The body; null where text_left_out is true.")
    text_left_out: bool = Field(
        default=False, description="Whether the topic refused the message with its text, for its size."
    )
    product: str | None = Field(None, description="The reviewed product.")
    source: str | None = Field(None, description="The origin of the review.")
    stars: float | None = Field(None, description="The author's own rating, from 1 to 5.")
    published_at: datetime | None = Field(None, description="Time of publication (UTC).")
    attributes: dict[str, Any] | None = Field(
        None, description="Further fields that the review's source names; in Avro a string of JSON."
    )
    task: str | None = Field(None, description="The classification task.")
    label: str | None = Field(None, description="The predicted label.")
    confidence: float | None = Field(None, description="Calibrated probability of the label.")
    probabilities: dict[str, float] | None = Field(None, description="Calibrated probability of each label.")
    margin: float | None = Field(None, description="Difference of the two greatest probabilities.")
    entropy: float | None = Field(None, description="Entropy of the probabilities, in nats.")
    truncated: bool | None = Field(None, description="Whether the model saw only the beginning of the text.")
    adapter_version: str | None = Field(None, description="The adapter that made the prediction.")
    scored_at: datetime | None = Field(None, description="When (UTC).")
    human_label: str | None = Field(
        None, description="What people say of this version; null where nobody did, or they do not agree."
    )
    withdrawn_at: datetime | None = Field(
        None, description="When the publisher withdrew the versions that Kafka had before (UTC)."
    )
    kafka_topic: str = Field(description="The topic that the record came from.")
    kafka_partition: int = Field(description="Its partition.")
    kafka_offset: int = Field(description="Its offset.")
    kafka_timestamp_ms: int | None = Field(
        None, description="Its time in Kafka, in milliseconds since 1970; null where that was not kept."
    )

    @classmethod
    def of(cls, values: dict[str, Any]) -> "ScoredRow":
        """A row of every field's value, all of them of the right type: nothing is checked.

        As pydantic's ``model_construct``, whose loop over the fields takes longer than reading a row and
        writing its JSON together.
        """
        row = cls.__new__(cls)
        object.__setattr__(row, "__dict__", values)
        object.__setattr__(row, "__pydantic_fields_set__", _FIELDS)
        object.__setattr__(row, "__pydantic_extra__", None)
        object.__setattr__(row, "__pydantic_private__", None)
        return row

    @property
    def is_tombstone(self) -> bool:
        """Whether the message has a key and no value, so that a compacted topic forgets the review."""
        return self.change == "erased"

    def without_text(self) -> "ScoredRow":
        """The same row for a topic that refuses it for its size."""
        return self.model_copy(update={"text": None, "text_left_out": True})


_FIELDS = set(ScoredRow.model_fields)


@cache
def avro_schema() -> str:
    """The Avro schema of a row, as JSON."""
    return files("reviews").joinpath("scored_row.avsc").read_text(encoding="utf-8")


to_json = ScoredRow.__pydantic_serializer__.to_json
"""UTF-8 JSON of a row; times in UTC with a ``Z``."""
