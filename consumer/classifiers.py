"""What a worker needs of a classifier, so that fakes test the logic."""

import math
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from reviews.prediction import Prediction


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
    """What a classifier has that gives embeddings with its answers; of others none are kept."""

    def score_and_embed(self, encoded: Any, /) -> tuple[list[Prediction], npt.NDArray[np.float32]]:
        """One prediction per text, and float32 (texts, hidden), in one pass."""


@runtime_checkable
class SharesTokeniser(Protocol):
    """What a classifier has that tokenises as others on its base do: their encodings are its own."""

    @property
    def tokeniser(self) -> Any:
        """The same object for all classifiers that give the same encoding of a text."""


def tokeniser_of(classifier: Classifier) -> object:
    """What tokenises for a classifier: its tokeniser, or the classifier itself where it shows none."""
    return classifier.tokeniser if isinstance(classifier, SharesTokeniser) else classifier


def require_numbers(predictions: list[Prediction]) -> list[Prediction]:
    """The predictions, if all of them are numbers.

    Raises:
        ArithmeticError: If one is not.
    """
    # One sum for all: a single NaN shows in it, and the database would take NaN for a confidence.
    if not math.isfinite(sum(prediction.confidence for prediction in predictions)):
        raise ArithmeticError("The model answered with what is no number.")
    return predictions
