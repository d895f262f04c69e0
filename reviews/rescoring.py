"""The data that storage and the workers of a rescoring job exchange."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from reviews.errors import ReviewLoopError
from reviews.prediction import Prediction
from reviews.stream_records import KeptEmbedding

JobState = Literal["running", "done", "cancelled"]


class RangeLost(ReviewLoopError):
    """Somebody else works on this range now, or the job was cancelled: leave it, nothing was written."""


@dataclass(frozen=True, slots=True)
class RescoreJob:
    """Stored reviews on their way through another adapter.

    Attributes:
        id: Names the job.
        task: The task.
        version: The adapter that they get.
        since: Received at or after this moment; None: since ever.
        until: Received before this moment; None: all that was stored when the job was made.
        state: ``running``, ``done`` or ``cancelled``.
        created_at: When it was made (UTC, the database's clock).
        finished_at: When it ended; None while it runs.
    """

    id: int
    task: str
    version: str
    since: datetime | None
    until: datetime | None
    state: JobState
    created_at: datetime
    finished_at: datetime | None


class Claim(NamedTuple):
    """A range of records that one worker may work on for now.

    Attributes:
        job_id: The job.
        first_record: Names the range.
        next_record: Where it ends, exclusive.
        done_record: Everything before it is done.
        token: The fence: each later claim of the range has a greater one.
    """

    job_id: int
    first_record: int
    next_record: int
    done_record: int
    token: int


class StoredText(NamedTuple):
    """A stored review that another adapter scored, or none did.

    Attributes:
        record: The review.
        review_id: The publisher's id.
        text: What to score.
        adapter_id: The adapter whose prediction is current, by its number; None: there is none yet.
    """

    record: int
    review_id: str
    text: str
    adapter_id: int | None


class Rescored(NamedTuple):
    """What a review gets.

    Attributes:
        record: The review.
        replaces: The adapter whose prediction it replaces, as it was read; None: there was none.
        prediction: The new one.
        kept: Its embedding, where it is kept.
    """

    record: int
    replaces: int | None
    prediction: Prediction
    kept: KeptEmbedding | None


class RescoreProgress(NamedTuple):
    """How far a job is.

    Attributes:
        records: Offsets in all its ranges; some hold no review.
        done: Offsets that are done.
        replaced: Predictions that became current.
        refused: Reviews that the model failed on; they keep what they had.
        ranges: How many there are.
        open_ranges: How many of them are not finished.
    """

    records: int
    done: int
    replaced: int
    refused: int
    ranges: int
    open_ranges: int
