"""Features of reviews, kept in ``outputs/benchmarks/features``: none is computed twice."""

import hashlib
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.classifier_data import BASE, THREADS
from classifier.base_model import locate
from classifier.settings import ClassifierSettings
from trainer.fitting.features import FrozenFeatures

WORK, LENGTH_TOKENS = Path("outputs/benchmarks/features"), 256


class FrozenOfBase:
    """The mean over the tokens of MiniLM as it is; it is loaded when texts are not known yet."""

    def __init__(self) -> None:
        self._features: FrozenFeatures | None = None

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (texts, hidden)."""
        return kept_features(texts, "frozen", self._compute)

    def _compute(self, texts: Sequence[str]) -> np.ndarray:
        if self._features is None:
            self._features = FrozenFeatures(locate(BASE), ClassifierSettings(threads=THREADS), LENGTH_TOKENS)
        return self._features(texts)


def kept_features(
    texts: Sequence[str], way: str, compute: Callable[[Sequence[str]], np.ndarray]
) -> np.ndarray:
    """What is computed for these texts, from its file or into it.

    Args:
        texts: All at once: others make another file.
        way: Of computing it, in words.
        compute: Texts to float32 (texts, hidden).
    """
    WORK.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256("\0".join([way, *texts]).encode("utf-8", "surrogatepass")).hexdigest()
    file = WORK / f"{key[:32]}.npy"
    if not file.is_file():
        print(f"computing features: {way}, {len(texts)} texts", file=sys.stderr, flush=True)
        content = io.BytesIO()
        np.save(content, compute(texts))
        file.with_suffix(".new").write_bytes(content.getvalue())
        file.with_suffix(".new").rename(file)
    return np.load(file, allow_pickle=False)
