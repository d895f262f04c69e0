"""Temperature scaling, and the error it is to lessen. Pure numpy.

Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks (ICML 2017).
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_GOLDEN = (5**0.5 - 1) / 2


def softmax(logits: npt.NDArray[np.floating], temperature: float = 1.0) -> Floats:
    """Probabilities: float64 (rows, labels), rows sum to 1, from logits of the same shape."""
    scaled = np.asarray(logits, np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def negative_log_likelihood(
    logits: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], temperature: float
) -> float:
    """Mean negative log-likelihood of the true labels, in nats."""
    scaled = np.asarray(logits, np.float64) / temperature
    top = scaled.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(scaled - top).sum(axis=1)) + top[:, 0]
    return float(np.mean(log_sum - scaled[np.arange(len(labels)), labels]))


def fit_temperature(
    logits: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], low: float = 0.05, high: float = 20.0
) -> float:
    """The temperature that makes the true labels most likely, within bounds.

    Args:
        logits: (rows, labels), of rows that were not trained on.
        labels: integers (rows), the true classes.
        low: Least temperature.
        high: Greatest temperature.

    Returns:
        A number to divide logits by; 1.0 without rows.
    """
    if len(labels) == 0:
        return 1.0
    # The likelihood is convex in 1/T, hence has one minimum in log T too: golden-section search finds it.
    left, right = np.log(low), np.log(high)
    while right - left > 1e-5:
        inner = right - _GOLDEN * (right - left)
        outer = left + _GOLDEN * (right - left)
        if negative_log_likelihood(logits, labels, np.exp(inner)) < negative_log_likelihood(
            logits, labels, np.exp(outer)
        ):
            right = outer
        else:
            left = inner
    return float(np.exp((left + right) / 2))


def expected_calibration_error(
    probabilities: Floats, labels: npt.NDArray[np.integer], bins: int = 15
) -> float:
    """Mean gap between confidence and accuracy over equally wide bins of confidence, in [0, 1]."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(float(confidence[bin_of == number].sum() - correct[bin_of == number].sum()))
        for number in range(bins)
    ]
    return sum(gaps) / max(1, len(labels))
