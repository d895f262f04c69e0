"""Embeddings and answers of a stream, computed once and kept by the hash of all that they follow from."""

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from classifier.adapters.manifest import read_manifest
from classifier.base_model import locate
from classifier.calibration import Floats
from classifier.interface import load
from classifier.settings import ClassifierSettings
from trainer.fitting.baseline import FrozenEmbedder
from trainer.fitting.outputs import write_whole

_TEXTS_AT_ONCE = 500
_BASE_TOKENS = 256
_LEAST = 1e-6
Floats32 = npt.NDArray[np.float32]
Said = tuple[Floats32, Floats32]  # embeddings (texts, hidden), probabilities (texts, labels or 0)
Answer = Callable[[Sequence[str]], Said]


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """What a frozen model says about some texts.

    Attributes:
        embeddings: float32 (rows, hidden).
        said: float32 (rows, labels): calibrated probabilities, rows sum to 1; of a base without an adapter,
            (rows, 0).
    """

    embeddings: Floats32
    said: Floats32

    @property
    def probabilities(self) -> Floats | None:
        """float64 (rows, labels), rows sum to 1; None of a base without an adapter."""
        return self.said.astype(np.float64) if self.said.shape[1] else None

    @property
    def columns(self) -> Floats32:
        """float32 (rows, hidden + labels): embeddings, and logits up to a number that is a row's own."""
        return np.hstack([self.embeddings, np.log(np.maximum(self.said, _LEAST))])


def features_of(
    texts: Sequence[str], adapter: Path | None, settings: ClassifierSettings, cache: Path
) -> Features:
    """What the adapter says, or its base where there is none; from the cache where it was asked before.

    Args:
        texts: In the order of the rows.
        adapter: Its directory; None for the base alone, whose embedding is the mean over tokens.
        settings: Base, device and precision.
        cache: Directory of the cache; made if need be.

    Raises:
        ModelError: If the base cannot be had.
        AdapterError: If the adapter is damaged or belongs to another base.
    """
    base = locate(settings.base_model, settings.base_revision)
    manifest = None if adapter is None else read_manifest(adapter, settings.task)
    model = [base.weights_sha256, manifest.content_hash if manifest else "base", settings.precision]
    answer = _Lazily(adapter, settings)
    parts = [
        _kept(cache, model, texts[start : start + _TEXTS_AT_ONCE], answer)
        for start in range(0, len(texts), _TEXTS_AT_ONCE)
    ]
    embeddings, said = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Features(embeddings, said)


def _kept(cache: Path, model: list[str], texts: Sequence[str], answer: Answer) -> Said:
    """The answers to these texts, from their file or into it."""
    key = hashlib.sha256("\0".join([*model, *texts]).encode("utf-8", "surrogatepass")).hexdigest()
    file = cache / f"{key[:32]}.npz"
    if not file.is_file():
        embeddings, said = answer(texts)
        content = io.BytesIO()
        np.savez(content, embeddings=embeddings, said=said)
        write_whole(file, content.getvalue())
    with np.load(file, allow_pickle=False) as found:
        return found["embeddings"], found["said"]


class _Lazily:
    """Loads the model when the first text is not in the cache."""

    def __init__(self, adapter: Path | None, settings: ClassifierSettings) -> None:
        self._adapter = adapter
        self._settings = settings
        self._answer: Answer | None = None

    def __call__(self, texts: Sequence[str]) -> Said:
        self._answer = self._answer or self._load()
        return self._answer(texts)

    def _load(self) -> Answer:
        if self._adapter is None:
            base = locate(self._settings.base_model, self._settings.base_revision)
            embedder = FrozenEmbedder(base, self._settings, _BASE_TOKENS)
            return lambda texts: (embedder(texts), np.empty((len(texts), 0), np.float32))
        classifier = load(self._settings.base_model, self._adapter, self._settings)

        def ask(texts: Sequence[str]) -> Said:
            predictions, embeddings = classifier.score_and_embed(classifier.encode(texts))
            return embeddings, np.array([one.probabilities for one in predictions], np.float32)

        return ask
