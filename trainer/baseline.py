"""What the base knows without being fitted: logistic regression on its frozen embeddings."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from classifier.base_model import BaseModel, locate
from classifier.batching import padded_batches
from classifier.devices import choose_device, choose_dtype
from classifier.merging import load_base
from classifier.tokenise import load_tokeniser
from trainer.finish import measure
from trainer.metrics import evaluate
from trainer.resources import Resources, Stopwatch, peak_gpu_bytes, peak_memory_bytes, weights_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from trainer.train import Run

_STRENGTHS = (
    0.01,
    0.1,
    1.0,
    10.0,
    100.0,
)  # of the fit, inverse to the penalty; the best on validation is kept
_BUDGET_TOKENS = 8192


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
    embedder = _Embedder(base, run)
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


class _Embedder:
    """Texts to the mean of their tokens' last hidden states."""

    def __init__(self, base: BaseModel, run: "Run") -> None:
        self._tokeniser = load_tokeniser(base, run.settings.max_length_tokens)
        self.device = choose_device(run.classifier.device)
        dtype = choose_dtype(run.classifier.precision, self.device)
        classifier = load_base(base, len(run.splits.train.names))
        self._model = classifier.base_model.eval().to(device=self.device, dtype=dtype)
        self._pad_id = classifier.config.pad_token_id or 0
        self.parameters = sum(value.numel() for value in self._model.parameters())

    def __call__(self, texts: "Sequence[str]") -> npt.NDArray[np.float32]:
        """float32 (texts, dimensions)."""
        import torch

        encoded = self._tokeniser.encode(texts)
        result = np.empty((len(encoded), self._model.config.hidden_size), np.float32)
        with torch.inference_mode():
            for batch in padded_batches(encoded.lengths, _BUDGET_TOKENS):
                rows = [torch.from_numpy(encoded.text(int(index)).astype(np.int64)) for index in batch]
                result[batch] = self._mean_states(rows).float().cpu().numpy()
        return result

    def _mean_states(self, rows: "list[torch.Tensor]") -> "torch.Tensor":
        import torch

        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self._pad_id)
        lengths = torch.tensor([len(row) for row in rows])
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).to(self.device)  # (rows, longest)
        states = self._model(input_ids=ids.to(self.device), attention_mask=mask.long()).last_hidden_state
        weights = mask[:, :, None].to(states.dtype)  # (rows, longest, 1)
        return (states * weights).sum(dim=1) / weights.sum(dim=1)  # type: ignore[no-any-return]
