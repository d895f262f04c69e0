"""What the gate looks at: both adapters' probabilities for labelled rows, with segments and weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import numpy as np
import numpy.typing as npt

from reviews.errors import WrongUse
from reviews.prediction import Prediction

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]
_SHORT_CHARACTERS = 80
_LONG_CHARACTERS = 400
_CELLS_A_LABEL = 5
_AUDIT_ROWS_A_CELL = 20
_TINY = 1e-12
_UNWEIGHTED_ROWS = 3.0
"""So many further audit rows there would be, divided over the cells as all rows are."""


class Scorer(Protocol):
    """What the gate needs of ``classifier.classifier.Classifier``."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the probabilities."""

    def predict(self, texts: Sequence[str], /) -> list[Prediction]:
        """One prediction per text."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Both adapters' probabilities for the same held-out rows: test, audit and cross-checked ones.

    Attributes:
        truth: int64 (rows), indexes into ``labels``: the consensus of people.
        active: float64 (rows, labels), calibrated probabilities of the active adapter, rows sum to 1;
            None where there is none (cold start).
        candidate: The same of the candidate.
        labels: Names of the labels.
        is_audit: bool (rows): drawn at random from the stream, not by the queue's strategy.
        segments: For ``product``, ``source``, ``length`` and ``month`` (or any other name) the segment of
            each row; '' where it has none.
        weights: float64 (rows), how many reviews of the stream a row speaks for, up to a common factor;
            None: each the same.
        left_out: How many further rows there are whose truth only one of the adapters knows.
        draw_weights: float64 (rows), in (0, 1]: how much an audit row counts among the audit rows, since some
            were drawn with greater chances; None: each the same.

    Raises:
        WrongUse: If the shapes do not fit each other or a truth is no label.
    """

    truth: Integers
    active: Floats | None
    candidate: Floats
    labels: tuple[str, ...]
    is_audit: Booleans
    segments: Mapping[str, Sequence[str]] = field(default_factory=dict)
    weights: Floats | None = None
    left_out: int = 0
    draw_weights: Floats | None = None

    def __post_init__(self) -> None:
        rows, shape = len(self.truth), (len(self.truth), len(self.labels))
        sizes = {
            "is_audit": self.is_audit,
            "weights": self.weights,
            "draw_weights": self.draw_weights,
            **self.segments,
        }
        wrong = [name for name, values in sizes.items() if values is not None and len(values) != rows]
        probabilities = {"active": self.active, "candidate": self.candidate}
        wrong += [name for name, said in probabilities.items() if said is not None and said.shape != shape]
        if wrong:
            raise WrongUse(
                f"The evidence for the gate has {rows} rows and {len(self.labels)} labels, but "
                f"{', '.join(wrong)} does not: both adapters must predict for the same rows."
            )
        if rows and not (self.truth.min() >= 0 and self.truth.max() < len(self.labels)):
            raise WrongUse(f"The evidence for the gate has a truth outside of its {len(self.labels)} labels.")

    @property
    def row_weights(self) -> Floats:
        """float64 (rows), mean 1."""
        if self.weights is None or not len(self.truth):
            return np.ones(len(self.truth))
        return np.asarray(self.weights / self.weights.mean())


def summed(probabilities: Floats, columns: Sequence[int], classes: int) -> Floats:
    """float64 (rows, classes): the probabilities of labels that are one class, added up.

    Args:
        probabilities: float64 (rows, labels).
        columns: The class of each label (:class:`reviews.label_set.CommonLabels`).
        classes: How many classes there are.
    """
    found = np.zeros((len(probabilities), classes))
    for label, column in enumerate(columns):
        found[:, column] += probabilities[:, label]
    return found


def segments_of(
    texts: Sequence[str],
    products: Sequence[str | None],
    sources: Sequence[str | None],
    published: Sequence[datetime],
) -> dict[str, list[str]]:
    """The segments of each row by ``product``, ``source``, ``length`` and ``month``; '' where it has none."""
    return {
        "product": [product or "" for product in products],
        "source": [source or "" for source in sources],
        "length": [length_segment(text) for text in texts],
        "month": [f"{moment.astimezone(UTC):%Y-%m}" for moment in published],
    }


def length_segment(text: str) -> str:
    """``short`` under 80 characters, ``long`` from 400 on, else ``medium``: about a line and a paragraph."""
    if len(text) < _SHORT_CHARACTERS:
        return "short"
    return "long" if len(text) >= _LONG_CHARACTERS else "medium"


def stream_weights(
    is_audit: Booleans,
    predicted: npt.NDArray[np.int64],
    margin: Floats,
    draw_weights: Floats | None = None,
) -> Floats | None:
    """float64 (rows), mean 1: weights that make test and audit rows together look like the stream.

    The queue draws evenly over predicted labels, or prefers uncertain reviews, so rare labels and small
    margins are too many among the test rows; the audit rows are drawn at random and show how many there
    should be. Rows are sorted into cells by predicted label and, where a label has audit rows enough, by
    margin, so that the cells of one label hold equally many of them. Each cell weighs in the end what it
    weighs among the audit rows and a few more that are spread as all rows: with few audit rows, weights are
    careful; without one, each row counts the same. Post-stratification, which assumes that inside a cell the
    queue draws at random: Holt, Smith: Post Stratification (Journal of the Royal Statistical Society A,
    1979). A candidate that trades wins on rows that the queue preferred for losses on the others is no gain,
    and is one on unweighted rows.

    Args:
        is_audit: bool (rows).
        predicted: int64 (rows): a number for each label by which the queue chose.
        margin: float (rows), in [0, 1]: the margin of the same score.
        draw_weights: float64 (rows), in (0, 1]: how much an audit row counts among the audit rows (Hájek's
            estimate of the cells' shares); None: each the same. Other rows have none.

    Returns:
        None where each row counts the same.
    """
    counting = np.where(is_audit, 1.0 if draw_weights is None else draw_weights, 1.0)
    cell = _cells(is_audit, predicted, margin)
    rows = np.bincount(cell, counting)
    audited = np.bincount(cell[is_audit], counting[is_audit], len(rows))
    if is_audit.any():
        further = _UNWEIGHTED_ROWS * counting[is_audit].mean() / counting.sum()
        counting = counting * (audited / np.maximum(rows, _TINY) + further)[cell]
    if np.allclose(counting, counting[:1]):
        return None
    return np.asarray(counting / counting.mean())


def _cells(is_audit: Booleans, predicted: npt.NDArray[np.int64], margin: Floats) -> npt.NDArray[np.int64]:
    """int64 (rows): the cell of each row; one at least for each predicted label."""
    cell = np.zeros(len(predicted), np.int64)
    following = 0
    for label in np.unique(predicted):
        of_label = predicted == label
        audited = margin[of_label & is_audit]
        parts = max(1, min(_CELLS_A_LABEL, len(audited) // _AUDIT_ROWS_A_CELL))
        edges = np.quantile(audited, np.arange(1, parts) / parts) if parts > 1 else np.empty(0)
        cell[of_label] = following + np.searchsorted(edges, margin[of_label], side="right")
        following += parts
    return cell
