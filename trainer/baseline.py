"""What the base knows without being fitted: logistic regression on its frozen embeddings."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from classifier.base_model import locate
from trainer.finish import measure
from trainer.frozen import FrozenEmbedder
from trainer.metrics import evaluate
from trainer.resources import Resources, Stopwatch, peak_gpu_bytes, peak_memory_bytes, weights_bytes

if TYPE_CHECKING:
    from trainer.train import Run

_STRENGTHS = (
    0.01,
    0.1,
    1.0,
    10.0,
    100.0,
)  # of the fit, inverse to the penalty; the best on validation is kept


def embedding_baseline(run: "Run") -> dict[str, Any]:
    """Metrics and resources of the baseline, as in a run's record.

    Args:
        run: Its recipe is not looked at, but for the length of texts and the seed.

    Raises:
        ModelError: If the base cannot be had.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    watch = Stopwatch()
    base = locate(run.classifier.base_model, run.classifier.base_revision)
    embedder = FrozenEmbedder(base, run.classifier, run.settings.max_length_tokens)
    fit_watch = Stopwatch()
    known, truth = embedder(run.splits.train.texts), np.array(run.splits.train.labels)
    validation, its_truth = embedder(run.splits.validation.texts), np.array(run.splits.validation.labels)
    candidates = [
        make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000)).fit(known, truth)
        for strength in _STRENGTHS
    ]
    classes = len(run.splits.train.names)
    scores = [
        evaluate(np.exp(_log_probabilities(one, validation, classes)), its_truth)["macro_f1"]
        for one in candidates
    ]
    best = candidates[int(np.argmax(scores))]
    fit_seconds = fit_watch.seconds
    measured = measure(lambda texts: _log_probabilities(best, embedder(texts), classes), run)
    fitted = best[-1].coef_.size + best[-1].intercept_.size
    resources = Resources(
        device=str(embedder.device),
        seconds=watch.seconds,
        fit_seconds=fit_seconds,
        peak_memory_bytes=peak_memory_bytes(),
        peak_gpu_bytes=peak_gpu_bytes(embedder.device),
        trainable_parameters=fitted,
        parameters=fitted + embedder.parameters,
        # The weights, and mean and scale of each dimension, in fp32.
        saved_bytes=4 * (fitted + 2 * known.shape[1]),
        base_bytes=weights_bytes(base.directory),
    )
    return {"metrics": measured.metrics, "resources": resources.as_dict()}


def _log_probabilities(
    fitted: Any, embeddings: npt.NDArray[np.float32], classes: int
) -> npt.NDArray[np.float64]:
    """float64 (rows, classes); a class without training rows is all but impossible."""
    result = np.full((len(embeddings), classes), -50.0)
    result[:, fitted.classes_] = fitted.predict_log_proba(embeddings)
    return result
