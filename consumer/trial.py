"""A shadow adapter's part in a batch: it may answer, it may fail, and nothing of it touches the stream."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog

from consumer.classifiers import Classifier, require_numbers
from reviews.prediction import Prediction
from reviews.slices import hash_position

log = structlog.get_logger()

Encode = Callable[[Classifier, Sequence[int]], Any]
"""The texts of these indices, tokenised for a classifier."""
_DRAW = "shadow"
MAX_FAILURES = 5
"""After so many failed batches in a row a worker asks a shadow no more: each costs the stream time."""


class Shadow:
    """An adapter on trial, and how it does.

    Args:
        classifier: What scores.
        share: Of the reviews, in (0, 1], drawn by their id: an edited review stays in or out.
    """

    def __init__(self, classifier: Classifier, share: float) -> None:
        self.classifier = classifier
        self.share = share
        self._failures = 0

    @property
    def is_given_up(self) -> bool:
        """Whether it failed too often in a row."""
        return self._failures >= MAX_FAILURES

    def chooses(self, review_id: str) -> bool:
        """Whether it scores this review."""
        return hash_position(review_id, _DRAW) < self.share

    def note(self, error: Exception | None) -> None:
        """Take note of how a batch went."""
        self._failures = 0 if error is None else self._failures + 1
        if error is not None:
            log.warning(
                "shadow_failed",
                adapter=self.classifier.adapter_version,
                error=type(error).__name__,
                is_given_up=self.is_given_up,
            )


class Trial:
    """The texts of one batch that a shadow scores.

    Attributes:
        task: The shadow's task.
        rows: How many reviews got an answer.
        disagreements: How many of them the serving adapter calls something else.
        has_failed: Whether the shadow failed on this batch; it has no answers then.
    """

    def __init__(self, shadow: Shadow, review_ids: Sequence[str], encode: Encode) -> None:
        self.task = shadow.classifier.task
        self.rows = self.disagreements = 0
        self.has_failed = False
        self._shadow = shadow
        self._indices = [index for index, name in enumerate(review_ids) if shadow.chooses(name)]
        self._encoded: Any = None
        if self._indices:
            try:
                self._encoded = encode(shadow.classifier, self._indices)
            except Exception as err:  # noqa: BLE001  a shadow may fail in any way
                self._fail(err)

    def answers(self) -> dict[int, Prediction]:
        """What the shadow says, by the index of the text; nothing where it fails."""
        if not self._indices or self.has_failed:
            return {}
        try:
            said = require_numbers(self._shadow.classifier.score(self._encoded))
            answers = dict(zip(self._indices, said, strict=True))
        except Exception as err:  # noqa: BLE001  a shadow may fail in any way
            self._fail(err)
            return {}
        self._shadow.note(None)
        return answers

    def compare(self, answer: Prediction, served: Iterable[Prediction]) -> None:
        """Count one answer beside those that are shown."""
        self.rows += 1
        self.disagreements += any(
            other.task == answer.task and other.label != answer.label for other in served
        )

    def _fail(self, error: Exception) -> None:
        self.has_failed = True
        self._shadow.note(error)


def start_trials(shadows: Iterable[Shadow], review_ids: Sequence[str], encode: Encode) -> list[Trial]:
    """A trial for each shadow that has not failed too often."""
    return [Trial(shadow, review_ids, encode) for shadow in shadows if not shadow.is_given_up]
