"""Real reviews with the demo adapter's answers and embeddings: scored once, kept beside other caches."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.classifier_data import ADAPTER, BASE, read
from reviewloop.local.places import cache_directory

LABELS = ("negative", "neutral", "positive")
_STREAMS = ("clothing_stream", "movies_stream")
_CHUNK = 500


@dataclass(frozen=True)
class ScoredStream:
    """A file of reviews in its order, with what the classifier says of each.

    Attributes:
        texts: The bodies.
        truth: int64 (rows): the stars' class, 0 negative to 2 positive.
        products: A name for each row.
        probabilities: float32 (rows, 3).
        embeddings: float32 (rows, 384).
    """

    texts: list[str]
    truth: np.ndarray
    products: list[str]
    probabilities: np.ndarray
    embeddings: np.ndarray


def scored_streams(data: Path | None) -> tuple[ScoredStream, ScoredStream]:
    """Clothing and movies; scoring them takes minutes the first time."""
    clothing, movies = (_scored(data, name) for name in _STREAMS)
    return clothing, movies


def _scored(data: Path | None, name: str) -> ScoredStream:
    rows = read(data, name)
    texts = [row["text"] for row in rows]
    answers = _cached(name, texts)
    return ScoredStream(
        texts,
        np.array([int(row["label"]) for row in rows]),
        [row.get("product") or "movies" for row in rows],
        answers["probabilities"],
        answers["embeddings"].astype(np.float32),
    )


def _cached(name: str, texts: list[str]) -> dict[str, np.ndarray]:
    digest = hashlib.sha256(json.dumps([texts, *_adapter_state()]).encode()).hexdigest()[:12]
    path = cache_directory() / "benchmarks" / f"{name}-{digest}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        probabilities, embeddings = _score(texts)
        np.savez(path, probabilities=probabilities, embeddings=embeddings)
    with np.load(path) as found:
        return {key: found[key] for key in found.files}


def _adapter_state() -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(ADAPTER.glob("*.safetensors"))]


def _score(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    from classifier.interface import load
    from classifier.settings import ClassifierSettings

    classifier = load(BASE, ADAPTER, ClassifierSettings(threads=1))
    probabilities, embeddings = [], []
    for start in range(0, len(texts), _CHUNK):
        encoded = classifier.encode(texts[start : start + _CHUNK])
        answers, states = classifier.score_and_embed(encoded)
        probabilities.append(np.array([answer.probabilities for answer in answers], np.float32))
        embeddings.append(states.astype(np.float16))
    return np.concatenate(probabilities), np.concatenate(embeddings)
