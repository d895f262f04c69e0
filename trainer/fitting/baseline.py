"""The baseline without fine-tuning: logistic regression on frozen embeddings."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from classifier.base_model import BaseModel, locate
from classifier.devices import choose_device, choose_dtype
from classifier.engine import Row
from classifier.model import load_base
from classifier.settings import ClassifierSettings
from classifier.tokenise import load_tokeniser
from classifier.verification import SHORT_PROBE_TEXTS
from trainer.fitting.finish import measure
from trainer.fitting.fit_data import FitRequest, Resources, peak_gpu_bytes, peak_memory_bytes, weights_bytes
from trainer.metrics import evaluate

if TYPE_CHECKING:
    import torch

_BUDGET_TOKENS = 8192
_ANY_LABELS = 2  # the head is not looked at
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
    embedder = FrozenEmbedder(base, request.classifier, request.settings.max_length_tokens)
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


class FrozenEmbedder:
    """Texts to the mean of their tokens' last hidden states.

    Args:
        base: The base model; nothing in it is fitted.
        classifier: Device and precision.
        max_length_tokens: Longer texts are cut.
    """

    def __init__(self, base: BaseModel, classifier: ClassifierSettings, max_length_tokens: int) -> None:
        from classifier.engine.general import find_padding

        self._tokeniser = load_tokeniser(base, max_length_tokens)
        self.device = choose_device(classifier.device)
        dtype = choose_dtype(classifier.precision, self.device)
        whole = load_base(base, _ANY_LABELS)
        self._padding = find_padding(whole, self._tokeniser.encode(SHORT_PROBE_TEXTS).rows())
        # Of a pair, the encoder: the decoder wants words of its own.
        body = whole.get_encoder() if whole.config.is_encoder_decoder else whole.base_model
        self._model = body.eval().to(device=self.device, dtype=dtype)
        self.parameters = sum(value.numel() for value in self._model.parameters())

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """float32 (texts, dimensions)."""
        import torch

        encoded = self._tokeniser.encode(texts)
        result = np.empty((len(encoded), self._model.config.hidden_size), np.float32)
        with torch.inference_mode():
            for batch in self._padding.plan(encoded.lengths, _BUDGET_TOKENS):
                rows = [encoded.text(int(index)) for index in batch]
                result[batch] = self._mean_states(rows).float().cpu().numpy()
        return result

    def _mean_states(self, rows: list[Row]) -> "torch.Tensor":
        import torch

        inputs = self._padding.inputs(rows, self.device)
        states = self._model(**inputs).last_hidden_state  # (rows, longest, hidden)
        mask = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"]))
        weights = mask[:, :, None].to(states.dtype)  # (rows, longest, 1)
        return (states * weights).sum(dim=1) / weights.sum(dim=1)  # type: ignore[no-any-return]
