"""What few audit answers and many stored predictions say together: accuracy and macro-F1, with intervals.

Audit answers are few and true, stored predictions many and only promises. How often each label is predicted
is known from the many; of each predicted label the answers tell what is true. Inside a predicted label the
probabilities help as far as they agree with the answers: prediction-powered inference with a tuned weight.
Angelopoulos, Duchi, Zrnic: PPI++: Efficient Prediction-Powered Inference (arXiv 2311.01453); Fisch, Maynez,
Hofer, Dhingra, Globerson, Cohen: Stratified Prediction-Powered Inference (NeurIPS 2024).

The interval of a normal distribution fails where a label has three answers. What the answers and the
predictions know of a predicted label is therefore counted as a number of answers, and the true labels behind
it are drawn from a Dirichlet distribution with three answers more, which the probabilities give. For one
label that is a Bayesian interval of a share, about as wide as Wilson's; ``benchmarks/audit_intervals.py``
shows how often it covers what it should. Agresti, Min: Frequentist performance of Bayesian confidence
intervals for comparing proportions (Biometrics 2005).

Answers that were drawn with unequal chances carry weights (Hájek's ratio estimator inside a predicted label).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from drift.performance import mean_over_classes
from drift.rows import Floats, Integers

_DRAWS = 1_000
_LEAST_TUNED = 10
"""With fewer answers of a predicted label the probabilities only give the three answers more."""
_MOST_GAINED = 3.0
"""Predictions may count at most so many times as much as the answers themselves."""
_PROMISED_ANSWERS = 3.0
_TINY = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class AuditAnswers:
    """What people said of audited reviews, beside what was predicted.

    Attributes:
        truth: int64 (answers): the true classes.
        predicted: int64 (answers): the classes that were stored.
        probabilities: float64 (answers, classes): as they were stored; rows sum to 1.
        weights: float64 (answers), positive: how much each counts, up to a common factor.
    """

    truth: Integers
    predicted: Integers
    probabilities: Floats
    weights: Floats

    def __len__(self) -> int:
        return len(self.truth)

    def take(self, chosen: npt.NDArray[np.bool_]) -> "AuditAnswers":
        """Those of a mask, bool (answers)."""
        return AuditAnswers(
            self.truth[chosen], self.predicted[chosen], self.probabilities[chosen], self.weights[chosen]
        )


@dataclass(frozen=True, slots=True, eq=False)
class StoredPredictions:
    """What is stored of the stream that the answers speak for.

    Attributes:
        counts: float64 (classes): how many reviews, of those that were looked at, got each class.
        promised: float64 (classes, classes): for each predicted class the mean probabilities; rows sum to 1.
    """

    counts: Floats
    promised: Floats


@dataclass(frozen=True, slots=True)
class EstimateInterval:
    """A figure in [0, 1] with its 95 % interval.

    Attributes:
        value: The estimate.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class AuditedPerformance:
    """Accuracy and macro-F1 by audit labels.

    Attributes:
        labels: How many there are.
        accuracy: Share of right answers.
        macro_f1: Mean F1 over the classes that occur.
    """

    labels: int
    accuracy: EstimateInterval
    macro_f1: EstimateInterval


def stored_predictions(
    probabilities: npt.NDArray[np.floating], predicted: Integers, weights: Floats | None = None
) -> StoredPredictions:
    """The predictions of a sample of the stream, summed up.

    Args:
        probabilities: (rows, classes).
        predicted: int64 (rows): the classes that were stored.
        weights: float64 (rows): how much each row counts; None: each the same.
    """
    classes = probabilities.shape[1]
    counting = np.ones(len(predicted)) if weights is None else weights
    sums = np.stack([counting[predicted == one] @ probabilities[predicted == one] for one in range(classes)])
    counts = np.bincount(predicted, counting, classes)
    # As many rows as would say as much if each counted the same: Kish, Survey Sampling (1965).
    rows = counting.sum() / max(_TINY, (counting**2).sum())
    totals = sums.sum(axis=1, keepdims=True)
    promised = np.where(totals > 0, sums / np.maximum(totals, _TINY), 1 / classes)
    return StoredPredictions(np.asarray(counts * rows), np.asarray(promised))


def audited_performance(
    answers: AuditAnswers, stored: StoredPredictions | None = None, seed: int = 0
) -> AuditedPerformance:
    """How good the predictions are.

    Args:
        answers: One at least, drawn with known chances from the reviews that ``stored`` tells of.
        stored: None where nothing but the answers is known.
        seed: Of the draws for the intervals.

    Raises:
        ValueError: Without answers.
    """
    if not len(answers):
        raise ValueError("Without an audit answer nothing is known of the stream.")
    if stored is None:
        stored = stored_predictions(answers.probabilities, answers.predicted, answers.weights)
    classes = len(stored.counts)
    means, alphas = np.empty((classes, classes)), np.empty((classes, classes))
    for one in range(classes):
        means[one], alphas[one] = _behind(answers.take(answers.predicted == one), stored.promised[one])
    drawn = np.random.default_rng(seed)
    # (draws, predicted, true): shares of the stream.
    tables = _dirichlet(alphas, drawn) * _dirichlet(stored.counts + 0.5 / classes, drawn)[:, :, None]
    table = means * (stored.counts / stored.counts.sum())[:, None]
    return AuditedPerformance(
        len(answers),
        _measured(_accuracy(table), _accuracy(tables)),
        _measured(_macro_f1(table), _macro_f1(tables)),
    )


def _behind(answers: AuditAnswers, promised: Floats) -> tuple[Floats, Floats]:
    """What is true behind a predicted class: float64 (classes), the shares, and a Dirichlet's parameters."""
    # Probabilities are often too sure: by their square roots, a mistake that nobody met stays possible.
    doubted = np.sqrt(promised)
    added = _PROMISED_ANSWERS * doubted / doubted.sum()
    if not len(answers):
        return promised, added
    share_of = answers.weights / answers.weights.sum()
    is_true = np.eye(len(promised))[answers.truth]  # (answers, classes)
    means = share_of @ is_true
    kish = 1 / (share_of**2).sum()
    middle = (kish * means + added) / (kish + _PROMISED_ANSWERS)
    left = is_true - middle
    alone = share_of @ (left**2).sum(axis=1)  # the variance of one answer
    if len(answers) >= _LEAST_TUNED:
        predicted = answers.probabilities - share_of @ answers.probabilities
        power = _power(is_true - means, predicted, share_of)
        means = np.maximum(means + power * (promised - share_of @ answers.probabilities), 0.0)
        means /= means.sum()
        left = left - power * predicted
    known = min(alone / max(_TINY, share_of**2 @ (left**2).sum(axis=1)), _MOST_GAINED * len(answers))
    return means, known * means + added


def _power(errors: Floats, predicted: Floats, share_of: Floats) -> float:
    """How far the probabilities are believed, in [0, 1]: what makes the estimate's variance least.

    With few answers it is made smaller, since it was tuned to them.
    """
    weights = share_of**2
    spread = float((weights @ predicted**2).sum())
    if spread <= _TINY:
        return 0.0
    best = float((weights @ (errors * predicted)).sum()) / spread
    return min(1.0, max(0.0, best)) * (1 - 2 / len(errors))


def _dirichlet(alphas: Floats, drawn: np.random.Generator) -> Floats:
    """float64 (draws, *alphas): draws of a Dirichlet distribution over the last axis."""
    gammas = drawn.gamma(np.maximum(alphas, 1e-6), size=(_DRAWS, *alphas.shape))
    return np.asarray(gammas / np.maximum(gammas.sum(axis=-1, keepdims=True), 1e-300))


def _accuracy(tables: Floats) -> Floats:
    return np.asarray(np.trace(tables, axis1=-2, axis2=-1))


def _macro_f1(tables: Floats) -> Floats:
    hits = np.diagonal(tables, axis1=-2, axis2=-1)
    said, true = tables.sum(axis=-1), tables.sum(axis=-2)
    return mean_over_classes(2 * hits / np.maximum(true + said, 1e-300), np.where(true > _TINY, true, 0.0))


def _measured(value: Floats, draws: Floats) -> EstimateInterval:
    low, high = np.percentile(draws, (2.5, 97.5))
    # With few answers the estimate and the middle of the draws may be far apart.
    return EstimateInterval(float(value), float(min(low, value)), float(max(high, value)))
