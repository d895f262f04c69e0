"""A classifier without a model: fast, honest and deterministic, so that every stored row can be checked."""

import hashlib
import math
import time
from collections.abc import Sequence

from reviews.adapter import AdapterVersion
from reviews.prediction import Prediction

LABELS = ("negative", "neutral", "positive")
POISON = "this text makes the model fail"
VERSIONS = ("sentiment-111111111111", "sentiment-222222222222")


class FakeClassifier:
    """Says about a text what its hash says; another version says something else.

    Args:
        version: The adapter version it passes for.
        seconds: How long a batch takes.
    """

    task = "sentiment"

    def __init__(self, version: str, seconds: float = 0.0) -> None:
        self.adapter_version = version
        self._seconds = seconds

    def encode(self, texts: Sequence[str]) -> list[str]:
        return list(texts)

    def score(self, encoded: Sequence[str]) -> list[Prediction]:
        time.sleep(self._seconds)
        if any(POISON in text for text in encoded):
            raise ValueError("poison")
        return [predict(text, self.adapter_version) for text in encoded]


def predict(text: str, version: str) -> Prediction:
    """What the fake of that version says about a text."""
    digest = hashlib.blake2b(text.encode(), key=version.encode(), digest_size=3).digest()
    weights = [byte + 1 for byte in digest]
    probabilities = tuple(weight / sum(weights) for weight in weights)
    ranked = sorted(probabilities, reverse=True)
    return Prediction(
        task="sentiment",
        label=LABELS[probabilities.index(ranked[0])],
        confidence=ranked[0],
        probabilities=probabilities,
        margin=ranked[0] - ranked[1],
        entropy=-sum(p * math.log(p) for p in probabilities),
        truncated=False,
        adapter_version=version,
    )


def fake_adapter(version: str) -> AdapterVersion:
    """What the registry keeps of that version."""
    return AdapterVersion(
        version=version,
        task="sentiment",
        labels=LABELS,
        base_model="fake",
        base_revision=None,
        content_hash=hashlib.sha256(version.encode()).hexdigest(),
    )
