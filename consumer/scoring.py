"""Scores the texts of a batch; a text on which a model fails is isolated and becomes a dead letter."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from broker.subscription import TopicPartition
from consumer.batch import Batch
from consumer.embeddings import EmbeddingSettings, kept_embeddings
from consumer.serving import Embedder, ServingClassifier, require_finite, tokeniser_of
from consumer.shadows import Shadow, ShadowScoring, start_shadow_scoring
from reviews.errors import ModelError
from reviews.message import PLAIN_TEXT
from reviews.prediction import Prediction
from reviews.stream_records import AcceptedReview, KeptEmbedding, PartitionRange, ScoredReview

log = structlog.get_logger()

Predictions = tuple[Prediction, ...]
"""One prediction per task for one text."""


class Refusal(str):
    """Why no model could score one text."""

    __slots__ = ()


@dataclass(slots=True)
class EncodedBatch:
    """A batch with its tokenised texts, bound to the classifiers that will score it (I6).

    Attributes:
        batch: The records.
        classifiers: One per task.
        texts: Of the reviews, in their order.
        encoded: The tokenised texts, one item per classifier; None where tokenising failed.
        shadow_scoring: What shadow adapters do with the batch.
    """

    batch: Batch[AcceptedReview]
    classifiers: tuple[ServingClassifier, ...]
    texts: list[str]
    encoded: list[Any] | None
    shadow_scoring: list[ShadowScoring] = field(default_factory=list)

    def review_ids(self) -> list[str]:
        """The publishers' ids of the texts, in their order."""
        return [review.message.id for review in self.batch.accepted()]

    @property
    def tokens(self) -> int:
        """How many tokens go to the classifiers, as far as their encodings say so."""
        return sum(getattr(encoded, "tokens", 0) for encoded in self.encoded or ())

    def tokenise_for(self, shadow: ServingClassifier, indices: Sequence[int]) -> Any:
        """Some of the texts for a shadow; not tokenised again if an active adapter has the same tokeniser."""
        for classifier, encoded in zip(self.classifiers, self.encoded or (), strict=False):
            if tokeniser_of(classifier) is tokeniser_of(shadow):
                return encoded.select(indices)
        return shadow.encode([self.texts[index] for index in indices])


def tokenise_batch(
    batch: Batch[AcceptedReview],
    classifiers: Sequence[ServingClassifier],
    shadows: Sequence[Shadow] = (),
) -> EncodedBatch:
    """Tokenise the texts of a batch, and bind it to its classifiers.

    They are captured here, before scoring: an adapter activated later does not touch this batch (I6).

    Args:
        batch: The records; where their topic names its tasks, they are scored for these alone.
        classifiers: One per task.
        shadows: Adapters in shadow scoring.
    """
    if batch.tasks is not None:
        classifiers = [one for one in classifiers if one.task in batch.tasks]
        shadows = [one for one in shadows if one.classifier.task in batch.tasks]
    texts = batch.texts()
    item = EncodedBatch(batch, tuple(classifiers), texts, tokenise_texts(classifiers, texts))
    if shadows:
        item.shadow_scoring = start_shadow_scoring(shadows, item.review_ids(), item.tokenise_for)
    return item


def tokenise_texts(classifiers: Sequence[ServingClassifier], texts: Sequence[str]) -> list[Any] | None:
    """The tokenised texts, one item per classifier; None where tokenising failed.

    Classifiers on one base share its tokeniser: their item is one object, made once.
    """
    try:
        return _tokenise_once(classifiers, texts)
    except Exception as err:  # noqa: BLE001  an error of a tokeniser is about some text of the batch
        log.warning("tokenising_failed", error=type(err).__name__, texts=len(texts))
        return None


def _tokenise_once(classifiers: Sequence[ServingClassifier], texts: Sequence[str]) -> list[Any]:
    encoded: dict[int, Any] = {}
    for classifier in classifiers:
        key = id(tokeniser_of(classifier))
        if key not in encoded:
            encoded[key] = classifier.encode(texts)
    return [encoded[id(tokeniser_of(classifier))] for classifier in classifiers]


_KEEP_NONE = EmbeddingSettings(keep="none")
Kept = Mapping[int, Sequence[KeptEmbedding]]
"""Embeddings to be stored, by the index of their text."""
ShadowPredictions = Mapping[int, Sequence[Prediction]]
"""What shadow adapters say, by the index of the text."""
ScoredBatch = dict[TopicPartition, PartitionRange[ScoredReview]]


def score_batch(item: EncodedBatch, embeddings: EmbeddingSettings = _KEEP_NONE) -> ScoredBatch:
    """Every range of the batch with its reviews scored and its failures turned into dead letters.

    Args:
        item: The batch.
        embeddings: Which embeddings go with the reviews.

    Raises:
        ModelError: If a classifier fails on a plain sentence too: it is broken, not the texts.
    """
    outcomes, kept = score_texts(item.classifiers, item.texts, item.encoded, item.review_ids, embeddings)
    remaining = enumerate(outcomes)
    shadows = _shadow_predictions(item.shadow_scoring, outcomes)
    return {
        partition: _to_range(part, remaining, kept, shadows) for partition, part in item.batch.ranges.items()
    }


def _shadow_predictions(
    shadow_scoring: Sequence[ShadowScoring], outcomes: Sequence[Predictions | Refusal]
) -> ShadowPredictions:
    found: dict[int, list[Prediction]] = defaultdict(list)
    for shadow in shadow_scoring:
        for index, prediction in shadow.predictions().items():
            served = outcomes[index]
            if not isinstance(served, Refusal):
                shadow.compare(prediction, served)
                found[index].append(prediction)
    return found


def _to_range(
    part: PartitionRange[AcceptedReview],
    outcomes: Iterator[tuple[int, Predictions | Refusal]],
    kept: Kept,
    shadows: ShadowPredictions,
) -> PartitionRange[ScoredReview]:
    scored: list[ScoredReview] = []
    letters = list(part.dead_letters)
    for review in part.accepted:
        index, outcome = next(outcomes)
        if isinstance(outcome, Refusal):
            letters.append(review.refused("score", "model_failed", str(outcome)))
        elif index in kept or index in shadows:
            extras = tuple(kept.get(index, ())), tuple(shadows.get(index, ()))
            scored.append(ScoredReview(review, outcome, *extras))
        else:
            scored.append(ScoredReview(review, outcome))
    if len(letters) > len(part.dead_letters):
        letters.sort(key=lambda letter: letter.offset)
    return PartitionRange(part.partition_id, part.expected, part.next, scored, letters, part.withdrawals)


def score_texts(
    classifiers: Sequence[ServingClassifier],
    texts: Sequence[str],
    encoded: Sequence[Any] | None,
    review_ids: Callable[[], Sequence[str]],
    embeddings: EmbeddingSettings,
) -> tuple[list[Predictions | Refusal], Kept]:
    """One outcome per text, and the embeddings to be stored.

    Args:
        classifiers: One per task.
        texts: What to score.
        encoded: What :func:`tokenise_texts` made of them.
        review_ids: Gives the publishers' ids of the texts.
        embeddings: Which embeddings are kept.

    Raises:
        ModelError: If a classifier fails on a plain sentence too: it is broken, not the texts.
    """
    if not texts:
        return [], {}
    if encoded is not None:
        try:
            return _score_encoded(classifiers, encoded, review_ids, embeddings)
        except Exception as err:  # noqa: BLE001  found below, text by text
            log.warning("scoring_failed", error=type(err).__name__, texts=len(texts))
    # Without embeddings: they must not be what a text is refused for.
    outcomes = bisect(classifiers, texts)
    if any(isinstance(outcome, Refusal) for outcome in outcomes):
        _require_working(classifiers)
    return outcomes, {}


def _require_working(classifiers: Sequence[ServingClassifier]) -> None:
    """Let a refusal stand only while the models score another text: a broken GPU is no bad data (I8)."""
    for classifier in classifiers:
        try:
            _predict(classifier, classifier.encode([PLAIN_TEXT]))
        except Exception as err:
            raise ModelError(
                f"The adapter '{classifier.adapter_version}' fails on every text, a plain one as well "
                f"({type(err).__name__}): nothing of the batch was stored; look at the device and the model, "
                "then start the worker again."
            ) from err


def _score_encoded(
    classifiers: Sequence[ServingClassifier],
    encoded: Sequence[Any],
    review_ids: Callable[[], Sequence[str]],
    embeddings: EmbeddingSettings,
) -> tuple[list[Predictions | Refusal], Kept]:
    by_task: list[list[Prediction]] = []
    kept: dict[int, list[KeptEmbedding]] = defaultdict(list)
    for classifier, texts in zip(classifiers, encoded, strict=True):
        if embeddings.keep == "none" or not isinstance(classifier, Embedder):
            by_task.append(_predict(classifier, texts))
            continue
        predictions, vectors = classifier.score_and_embed(texts)
        by_task.append(require_finite(predictions))
        for index, one in kept_embeddings(review_ids(), predictions, vectors, embeddings).items():
            kept[index].append(one)
    return list(zip(*by_task, strict=True)), kept


def _predict(classifier: ServingClassifier, encoded: Any) -> list[Prediction]:
    return require_finite(classifier.score(encoded))


def bisect(classifiers: Sequence[ServingClassifier], texts: Sequence[str]) -> list[Predictions | Refusal]:
    """Score in ever smaller halves, so that only the texts that fail by themselves are refused."""
    try:
        encoded = _tokenise_once(classifiers, texts)
        by_task = [_predict(*pair) for pair in zip(classifiers, encoded, strict=True)]
        return list(zip(*by_task, strict=True))
    except Exception as err:  # noqa: BLE001  the single text that fails carries its error into a dead letter
        if len(texts) == 1:
            return [Refusal(f"The model failed on this text: {type(err).__name__}.")]
    middle = len(texts) // 2
    return bisect(classifiers, texts[:middle]) + bisect(classifiers, texts[middle:])
