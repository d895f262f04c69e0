"""The baseline without fine-tuning: logistic regression on frozen embeddings."""

import time
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from classifier.base_model import locate
from trainer.fitting.features import FrozenFeatures
from trainer.fitting.finish import measure
from trainer.fitting.fit_data import FitRequest, Resources, peak_gpu_bytes, peak_memory_bytes, weights_bytes
from trainer.metrics import evaluate

_STRENGTHS = (
    0.01,
    0.1,
    1.0,
    10.0,
    100.0,
)  # of the fit, inverse to the penalty; the best on validation is kept


def embedding_baseline(request: FitRequest) -> dict[str, Any]:
    """Metrics and resources of the baseline, as in a run's record.

    Raises:
        ModelError: If the base cannot be had.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    began = time.perf_counter()
    base = locate(request.classifier.base_model, request.classifier.base_revision)
    embedder = FrozenFeatures(base, request.classifier, request.settings.max_length_tokens)
    fit_began = time.perf_counter()
    known, truth = embedder(request.splits.train.texts), np.array(request.splits.train.labels)
    validation, its_truth = (
        embedder(request.splits.validation.texts),
        np.array(request.splits.validation.labels),
    )
    candidates = [
        make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000)).fit(known, truth)
        for strength in _STRENGTHS
    ]
    classes = len(request.splits.train.names)
    scores = [
        evaluate(np.exp(_log_probabilities(one, validation, classes)), its_truth)["macro_f1"]
        for one in candidates
    ]
    best = candidates[int(np.argmax(scores))]
    fit_seconds = time.perf_counter() - fit_began
    measured = measure(lambda texts: _log_probabilities(best, embedder(texts), classes), request)
    fitted = best[-1].coef_.size + best[-1].intercept_.size
    resources = Resources(
        device=str(embedder.device),
        seconds=time.perf_counter() - began,
        fit_seconds=fit_seconds,
        peak_memory_bytes=peak_memory_bytes(),
        peak_gpu_bytes=peak_gpu_bytes(embedder.device),
        trainable_parameters=fitted,
        parameters=fitted + embedder.parameters,
        # The weights, and mean and scale of each dimension, in fp32.
        saved_bytes=4 * (fitted + 2 * known.shape[1]),
        base_bytes=weights_bytes(base.directory),
    )
    return {"metrics": measured.metrics, "resources": asdict(resources)}


def _log_probabilities(
    fitted: Any, embeddings: npt.NDArray[np.float32], classes: int
) -> npt.NDArray[np.float64]:
    """float64 (rows, classes); a class without training rows is all but impossible."""
    result = np.full((len(embeddings), classes), -50.0)
    result[:, fitted.classes_] = fitted.predict_log_proba(embeddings)
    return result
