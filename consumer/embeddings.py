"""Embedding retention: decides for each text, when it is scored, whether its embedding is stored."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from reviews.prediction import Prediction
from reviews.slices import SliceShares, hash_position, slice_of
from reviews.stream_records import KeepReason, KeptEmbedding

_SAMPLE = "sample"
_MOST_FLOAT16 = float(np.finfo(np.float16).max)


class EmbeddingSettings(BaseModel):
    """Which embeddings are stored with their reviews; 768 bytes each on MiniLM, 1,536 on RoBERTa base."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keep: Literal["none", "some", "all"] = Field(
        default="some",
        description="Which embeddings are stored; some: of the audit slice, of a random sample and of "
        "uncertain reviews.",
    )
    audit_share: float = Field(
        default=SliceShares().audit,
        ge=0,
        le=1,
        description="Share of the audit slice; must be the trainer's audit_share.",
    )
    sample_share: float = Field(
        default=0.02, ge=0, le=1, description="Share of the random sample, drawn by a hash of the review id."
    )
    uncertain_margin: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="A review is uncertain if its two best probabilities differ by less than this.",
    )


def keep_reason(review_id: str, margin: float, settings: EmbeddingSettings) -> KeepReason | None:
    """Why the embedding of a review is kept; None: it is not.

    What chance chose comes first, so that ``audit`` and ``sample`` together are an unbiased part of the
    stream, independent of the model's predictions.

    Args:
        review_id: The publisher's id.
        margin: Difference of the two greatest probabilities, in [0, 1].
        settings: How much is kept.
    """
    if settings.keep == "none":
        return None
    if slice_of(review_id, SliceShares(audit=settings.audit_share)) == "audit":
        return "audit"
    if hash_position(review_id, _SAMPLE) < settings.sample_share:
        return "sample"
    if margin < settings.uncertain_margin:
        return "uncertain"
    return "all" if settings.keep == "all" else None


def kept_embeddings(
    review_ids: Sequence[str],
    predictions: Sequence[Prediction],
    embeddings: npt.NDArray[np.float32],
    settings: EmbeddingSettings,
) -> dict[int, KeptEmbedding]:
    """The embeddings to be stored, by the index of their text; those that are not finite are left out.

    Args:
        review_ids: The publishers' ids.
        predictions: One per review, all of one adapter.
        embeddings: float32 (reviews, hidden).
        settings: How much is kept.
    """
    reasons = {
        index: reason
        for index, (name, said) in enumerate(zip(review_ids, predictions, strict=True))
        if (reason := keep_reason(name, said.margin, settings)) is not None
    }
    chosen = embeddings[list(reasons)]
    # A number beyond what half precision holds becomes its largest one: it would be infinite otherwise.
    halves = np.clip(chosen, -_MOST_FLOAT16, _MOST_FLOAT16).astype("<f2")
    usable = np.all(np.isfinite(chosen), axis=1).tolist()
    return {
        index: KeptEmbedding(
            predictions[index].task, predictions[index].adapter_version, reason, row.tobytes()
        )
        for (index, reason), row, is_usable in zip(reasons.items(), halves, usable, strict=True)
        if is_usable
    }
