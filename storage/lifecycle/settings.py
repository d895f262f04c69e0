"""The section ``retention``: how long each kind of data is kept."""

from datetime import datetime, timedelta
from typing import Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, SecretStr, model_validator

Days = PositiveFloat | None


class Cutoffs(NamedTuple):
    """Before which moment each kind of data is deleted; None: it is kept.

    Attributes:
        texts: Reviews without a label, with all that belongs to them, by the time of receipt.
        labelled_texts: Those with a label.
        predictions: Current predictions, by the time of scoring; None: they go with their text.
        history: The predictions before, by the time of their replacement; None: the same.
        embeddings: By the receipt of their review.
        labels: Answers, by the time of receipt; None: they go with their text.
        dead_letters: By the time of receipt, whatever their state.
        drift_reports: By the time of their making.
        queue: Finished items of the annotation queue, by the time of their end.
        datasets: Frozen datasets of runs that promoted nothing, by the end of the run.
        audit_log: Decisions, by their time.
    """

    texts: datetime | None
    labelled_texts: datetime | None
    predictions: datetime | None
    history: datetime | None
    embeddings: datetime | None
    labels: datetime | None
    dead_letters: datetime | None
    drift_reports: datetime | None
    queue: datetime | None
    datasets: datetime | None
    audit_log: datetime | None


class RetentionSettings(BaseModel):
    """The section ``retention``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    texts_days: Days = Field(
        None,
        description="Reviews received longer ago are deleted with all that belongs to them; unset: kept for "
        "ever.",
    )
    labelled_texts_days: Days = Field(
        None, description="The same for reviews with a label, which training needs; unset: as texts_days."
    )
    predictions_days: Days = Field(
        None, description="Predictions scored longer ago are deleted; unset: they go with their review."
    )
    history_days: Days = Field(
        None, description="Predictions replaced longer ago, and those of shadows; unset: with their review."
    )
    embeddings_days: Days = Field(
        None, description="Embeddings of reviews received longer ago; unset: with their review."
    )
    labels_days: Days = Field(
        None, description="Answers received longer ago; unset: with their review. May be more than its text."
    )
    dead_letters_days: Days = Field(
        None, description="Dead letters received longer ago, those that wait too; unset: as texts_days."
    )
    drift_reports_days: Days = Field(None, description="Drift reports made longer ago; unset: as texts_days.")
    queue_days: Days = Field(
        None,
        description="Items of the annotation queue that ended longer ago, but for the audit's; unset: with "
        "their review.",
    )
    datasets_days: Days = Field(
        None, description="Datasets of training runs that ended longer ago and promoted nothing; unset: kept."
    )
    audit_log_days: Days = Field(
        None, description="Entries of the console's audit log made longer ago; unset: kept."
    )
    erase_withdrawn: Literal["never", "tombstones", "all"] = Field(
        "never",
        description="Whether 'trainer schedule' erases reviews that their publisher took back: those of "
        "tombstones, or all.",
    )
    cron: str = Field(
        "30 3 * * *",
        description="When 'trainer schedule' deletes: minute, hour, day, month, weekday; in UTC.",
    )
    database_url: SecretStr | None = Field(
        None,
        description="The database as the role of 'db roles --keeper', for the retention and the erasures of "
        "'trainer schedule', whose own role deletes nothing; unset: database.url.",
    )
    busy_share: float = Field(
        0.2,
        gt=0,
        le=1,
        description="Share of the time in which the deletion works; in the rest it lets the stream go first.",
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.labelled_texts_days is not None and (
            self.texts_days is None or self.labelled_texts_days < self.texts_days
        ):
            raise ValueError(
                "labelled_texts_days is for labelled reviews that stay longer than the others: it takes a "
                "texts_days that is not greater"
            )
        longest = self.labelled_texts_days or self.texts_days
        if longest is not None and self.embeddings_days is not None and self.embeddings_days > longest:
            raise ValueError("embeddings_days is greater than texts_days: an embedding goes with its text")
        return self

    @property
    def keeps_everything(self) -> bool:
        """Whether nothing is ever deleted."""
        return all(getattr(self, name) is None for name in type(self).model_fields if name.endswith("_days"))

    def cutoffs(self, now: datetime) -> Cutoffs:
        """Where each kind ends, seen from a moment."""

        def before(days: float | None) -> datetime | None:
            return None if days is None else now - timedelta(days=days)

        return Cutoffs(
            texts=before(self.texts_days),
            labelled_texts=before(self.labelled_texts_days or self.texts_days),
            predictions=before(self.predictions_days),
            history=before(self.history_days),
            embeddings=before(self.embeddings_days),
            labels=before(self.labels_days),
            dead_letters=before(self.dead_letters_days or self.texts_days),
            drift_reports=before(self.drift_reports_days or self.texts_days),
            queue=before(self.queue_days),
            datasets=before(self.datasets_days),
            audit_log=before(self.audit_log_days),
        )

    def in_words(self) -> str:
        """What is kept for how long, for people."""
        if self.keeps_everything:
            return "everything is kept for ever"
        named = {
            name.removesuffix("_days").replace("_", " "): getattr(self, name)
            for name in type(self).model_fields
            if name.endswith("_days") and getattr(self, name) is not None
        }
        return ", ".join(f"{name} {days:g} days" for name, days in named.items())
