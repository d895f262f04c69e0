"""Texts through the classifiers; a text that makes a model fail is found and refused, the others go on."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import structlog

from consumer.batch import Accepted, Batch, Slice
from consumer.keeping import EmbeddingSettings, kept_embeddings
from reviews.batch import DeadLetter, KeptEmbedding, PartitionRange, ScoredReview
from reviews.errors import ModelError
from reviews.prediction import Prediction

log = structlog.get_logger()

_PLAIN_TEXT = "It works as it should."


class Classifier(Protocol):
    """What a worker needs of ``classifier.classifier.Classifier``: one task, one immutable adapter."""

    @property
    def task(self) -> str:
        """What it decides."""

    @property
    def adapter_version(self) -> str:
        """The adapter that scores."""

    def encode(self, texts: Sequence[str], /) -> Any:
        """The tokenised texts; what it returns may have an attribute ``tokens`` to be counted."""

    def score(self, encoded: Any, /) -> list[Prediction]:
        """One prediction per text, in order."""


@runtime_checkable
class Embedder(Protocol):
    """What a classifier has that gives embeddings with its answers; others keep none."""

    def score_and_embed(self, encoded: Any, /) -> tuple[list[Prediction], npt.NDArray[np.float32]]:
        """One prediction per text, and float32 (texts, hidden), in one pass."""


Answers = tuple[Prediction, ...]
"""One prediction per task for one text."""


class Refusal(str):
    """Why no model could score one text."""

    __slots__ = ()


class EncodedBatch:
    """A batch with its tokenised texts, bound to the classifiers that will score it (I6).

    The classifiers are captured here, before scoring: an adapter activated later does not touch this batch.

    Attributes:
        batch: The records.
        classifiers: One per task.
        encoded: The tokenised texts, one item per classifier; None where tokenising failed.
    """

    def __init__(self, batch: Batch, classifiers: Sequence[Classifier]) -> None:
        self.batch = batch
        self.classifiers = tuple(classifiers)
        self.texts = batch.texts()
        self.encoded: list[Any] | None = None
        try:
            self.encoded = [classifier.encode(self.texts) for classifier in self.classifiers]
        except Exception as err:  # noqa: BLE001  whatever a tokeniser raises is about some text of the batch
            log.warning("tokenising_failed", error=type(err).__name__, texts=len(self.texts))

    @property
    def tokens(self) -> int:
        """How many tokens go to the classifiers, as far as their encodings say so."""
        return sum(getattr(encoded, "tokens", 0) for encoded in self.encoded or ())


_KEEP_NONE = EmbeddingSettings(keep="none")
Kept = Mapping[int, Sequence[KeptEmbedding]]
"""Embeddings to be stored, by the index of their text."""


def score_batch(
    item: EncodedBatch, embeddings: EmbeddingSettings = _KEEP_NONE
) -> list[tuple[Slice, PartitionRange]]:
    """Every slice of the batch with its reviews scored and its failures turned into dead letters.

    Args:
        item: The batch.
        embeddings: Which embeddings go with the reviews.

    Raises:
        ModelError: If a classifier fails on a plain sentence too: it is broken, not the texts.
    """
    outcomes, kept = _score_texts(item, embeddings)
    if any(isinstance(outcome, Refusal) for outcome in outcomes):
        _require_working(item.classifiers)
    remaining = enumerate(outcomes)
    return [(part, _to_range(part, remaining, kept)) for part in item.batch.slices.values()]


def _to_range(part: Slice, outcomes: Iterator[tuple[int, Answers | Refusal]], kept: Kept) -> PartitionRange:
    result = PartitionRange(part.partition_id, part.expected, part.next, [], list(part.dead_letters))
    for review in part.accepted:
        index, outcome = next(outcomes)
        if isinstance(outcome, Refusal):
            result.dead_letters.append(_refused(review, outcome))
        else:
            result.reviews.append(_scored(review, outcome, kept.get(index, ())))
            if review.replay is not None:
                result.replays.append((review.offset, review.replay))
    result.dead_letters.sort(
        key=lambda letter: letter.offset
    )  # in order already, but for what was refused here
    return result


def _require_working(classifiers: Sequence[Classifier]) -> None:
    """Let a refusal stand only while the models score another text: a dead GPU is nobody's bad data (I8)."""
    for classifier in classifiers:
        try:
            _answers(classifier, classifier.encode([_PLAIN_TEXT]))
        except Exception as err:
            raise ModelError(
                f"The adapter '{classifier.adapter_version}' fails on every text, a plain one as well "
                f"({type(err).__name__}): nothing of the batch was stored; look at the device and the model, "
                "then start the worker again."
            ) from err


def _score_texts(item: EncodedBatch, embeddings: EmbeddingSettings) -> tuple[list[Answers | Refusal], Kept]:
    if not item.texts:
        return [], {}
    if item.encoded is not None:
        try:
            return _score_encoded(item, item.encoded, embeddings)
        except Exception as err:  # noqa: BLE001  found below, text by text
            log.warning("scoring_failed", error=type(err).__name__, texts=len(item.texts))
    # Without embeddings: they must not be what a text is refused for.
    return bisect(item.classifiers, item.texts), {}


def _score_encoded(
    item: EncodedBatch, encoded: Sequence[Any], embeddings: EmbeddingSettings
) -> tuple[list[Answers | Refusal], Kept]:
    answers: list[list[Prediction]] = []
    kept: dict[int, list[KeptEmbedding]] = defaultdict(list)
    for classifier, texts in zip(item.classifiers, encoded, strict=True):
        if embeddings.keep == "none" or not isinstance(classifier, Embedder):
            answers.append(_answers(classifier, texts))
            continue
        predictions, vectors = classifier.score_and_embed(texts)
        answers.append(_require_numbers(predictions))
        review_ids = [review.message.id for review in item.batch.accepted()]
        for index, one in kept_embeddings(review_ids, predictions, vectors, embeddings).items():
            kept[index].append(one)
    return list(zip(*answers, strict=True)), kept


def _answers(classifier: Classifier, encoded: Any) -> list[Prediction]:
    return _require_numbers(classifier.score(encoded))


def _require_numbers(predictions: list[Prediction]) -> list[Prediction]:
    # One sum for all: a single NaN shows in it, and the database would take NaN for a confidence.
    if not math.isfinite(sum(prediction.confidence for prediction in predictions)):
        raise ArithmeticError("The model answered with what is no number.")
    return predictions


def bisect(classifiers: Sequence[Classifier], texts: Sequence[str]) -> list[Answers | Refusal]:
    """Score in ever smaller halves, so that only the texts that fail by themselves are refused."""
    try:
        answers = [_answers(classifier, classifier.encode(texts)) for classifier in classifiers]
        return list(zip(*answers, strict=True))
    except Exception as err:  # noqa: BLE001  the single text that fails carries its error into a dead letter
        if len(texts) == 1:
            return [Refusal(f"The model failed on this text: {type(err).__name__}.")]
    middle = len(texts) // 2
    return bisect(classifiers, texts[:middle]) + bisect(classifiers, texts[middle:])


def _scored(review: Accepted, answers: Answers, kept: Sequence[KeptEmbedding]) -> ScoredReview:
    message = review.message
    return ScoredReview(
        review.offset,
        message.id,
        message.text,
        message.product,
        message.source,
        message.stars,
        review.published_at,
        review.received_at,
        answers,
        tuple(kept),
    )


def _refused(review: Accepted, refusal: Refusal) -> DeadLetter:
    return DeadLetter(
        review.offset,
        "score",
        "model_failed",
        str(refusal),
        review.raw,
        review.key,
        review.received_at,
        review.timestamp_ms,
        review.replay,
    )
