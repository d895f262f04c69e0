"""Texts through the classifiers; a text that makes a model fail is found and refused, the others go on."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import structlog

from consumer.batch import Accepted, Batch, Slice
from reviews.batch import DeadLetter, PartitionRange, ScoredReview
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


def score_batch(item: EncodedBatch) -> list[tuple[Slice, PartitionRange]]:
    """Every slice of the batch with its reviews scored and its failures turned into dead letters.

    Raises:
        ModelError: If a classifier fails on a plain sentence too: it is broken, not the texts.
    """
    outcomes = _score_texts(item)
    if any(isinstance(outcome, Refusal) for outcome in outcomes):
        _require_working(item.classifiers)
    remaining = iter(outcomes)
    return [(part, _to_range(part, remaining)) for part in item.batch.slices.values()]


def _to_range(part: Slice, outcomes: Iterator[Answers | Refusal]) -> PartitionRange:
    result = PartitionRange(part.partition_id, part.expected, part.next, [], list(part.dead_letters))
    for review in part.accepted:
        outcome = next(outcomes)
        if isinstance(outcome, Refusal):
            result.dead_letters.append(_refused(review, outcome))
        else:
            result.reviews.append(_scored(review, outcome))
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


def _score_texts(item: EncodedBatch) -> list[Answers | Refusal]:
    if not item.texts:
        return []
    if item.encoded is not None:
        try:
            answers = [
                _answers(classifier, encoded)
                for classifier, encoded in zip(item.classifiers, item.encoded, strict=True)
            ]
            return list(zip(*answers, strict=True))
        except Exception as err:  # noqa: BLE001  found below, text by text
            log.warning("scoring_failed", error=type(err).__name__, texts=len(item.texts))
    return bisect(item.classifiers, item.texts)


def _answers(classifier: Classifier, encoded: Any) -> list[Prediction]:
    predictions = classifier.score(encoded)
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


def _scored(review: Accepted, answers: Answers) -> ScoredReview:
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
