"""Labels that look wrong, by confident learning on stored probabilities.

Northcutt, Jiang, Chuang: Confident Learning: Estimating Uncertainty in Dataset Labels (Journal of Artificial
Intelligence Research 70, 2021). The confident joint is its equation 1 and algorithm 1; suspects are the
examples off its diagonal (the paper's method 2), ranked by the normalised margin (section 3.2).

The probabilities have to come from a model that did not learn the labels that it judges. Those stored with a
review do: it was scored before anybody labelled it.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reviews.label import LabelledReview

Floats = npt.NDArray[np.floating]
Integers = npt.NDArray[np.integer]


class Suspect(NamedTuple):
    """A label that looks wrong.

    Attributes:
        row: Which row it is.
        given: Number of the label that people gave.
        suggested: Number of the label that it rather seems to be.
        margin: Probability of the given label less that of the likeliest other one, in [-1, 1]; the lowest
            are the most suspicious.
    """

    row: int
    given: int
    suggested: int
    margin: float


def confident_joint(given: Integers, probabilities: Floats) -> npt.NDArray[np.int64]:
    """How many examples with one label are confidently of another: int64 (given labels, true labels).

    Args:
        given: integers (rows), numbers of the labels that people gave.
        probabilities: floats (rows, labels), rows sum to 1.
    """
    labels = probabilities.shape[1]
    joint = np.zeros((labels, labels), np.int64)
    confident, likely = _confident(given, probabilities)
    np.add.at(joint, (given[confident], likely[confident]), 1)
    return joint


def find_suspects(given: Integers, probabilities: Floats) -> list[Suspect]:
    """The labels off the diagonal of the confident joint, which is of the same arguments; the worst first."""
    confident, likely = _confident(given, probabilities)
    rows = np.flatnonzero(confident & (likely != given))
    others = probabilities.astype(np.float64)
    own = others[np.arange(len(given)), given]
    others[np.arange(len(given)), given] = -np.inf
    margins = own - others.max(axis=1, initial=-np.inf)
    ranked = rows[np.lexsort((rows, margins[rows]))]
    return [Suspect(int(row), int(given[row]), int(likely[row]), float(margins[row])) for row in ranked]


def thresholds(given: Integers, probabilities: Floats) -> npt.NDArray[np.float64]:
    """How confident the model is of a label, on average, where people gave it: float64 (labels).

    A label that was never given has none (infinity): no row can be confidently of it.
    """
    labels = probabilities.shape[1]
    counts = np.bincount(given, minlength=labels)
    own = probabilities[np.arange(len(given)), given].astype(np.float64)
    sums = np.bincount(given, weights=own, minlength=labels)
    means: npt.NDArray[np.float64] = np.divide(sums, counts, out=np.full(labels, np.inf), where=counts > 0)
    return means


def _confident(given: Integers, probabilities: Floats) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Whether a row is confidently of any label, and of which: of several, the likeliest."""
    # The mean of equal numbers may be a rounding above them; float32 probabilities have 7 digits.
    above: npt.NDArray[np.bool_] = probabilities >= thresholds(given, probabilities)[None, :] - 1e-6
    likely = np.where(above, probabilities, -np.inf).argmax(axis=1)
    return np.logical_or.reduce(above, axis=1), likely


class SuspectLabel(NamedTuple):
    """A labelled review whose label looks wrong.

    Attributes:
        review: The review with its label.
        suggested: The label that it rather seems to be.
        margin: As in :class:`Suspect`.
    """

    review: LabelledReview
    suggested: str
    margin: float


def suspect_labels(
    reviews: Sequence[LabelledReview], labels_of: Mapping[str, Sequence[str]]
) -> list[SuspectLabel]:
    """The labelled reviews whose label looks wrong, the most suspicious first.

    Args:
        reviews: Labelled reviews; those without scores, or with a label that the adapter which scored them
            does not have, are left out.
        labels_of: The labels of each adapter, in its order, as they are called now; of labels that were
            merged, the probabilities are added.
    """
    judged = [
        item
        for item in reviews
        if item.probabilities is not None and item.label in labels_of.get(item.adapter_version or "", ())
    ]
    if not judged:
        return []
    names = sorted({name for item in judged for name in labels_of[item.adapter_version or ""]})
    number_of = {name: number for number, name in enumerate(names)}
    given = np.array([number_of[item.label] for item in judged])
    probabilities = np.zeros((len(judged), len(names)), np.float32)
    for row, item in enumerate(judged):
        columns = [number_of[name] for name in labels_of[item.adapter_version or ""]]
        np.add.at(probabilities[row], columns, np.asarray(item.probabilities))
    return [
        SuspectLabel(judged[suspect.row], names[suspect.suggested], suspect.margin)
        for suspect in find_suspects(given, probabilities)
    ]
