"""How many reviews of the stream each labelled row speaks for."""

import numpy as np
import numpy.typing as npt

from trainer.gate.evidence import Booleans, Floats

_CELLS_A_LABEL = 5
_AUDIT_ROWS_A_CELL = 20
_HALF_A_ROW = 0.5  # a cell without audit rows: the stream has fewer than one such review among the audited


def stream_weights(is_audit: Booleans, predicted: npt.NDArray[np.int64], margin: Floats) -> Floats | None:
    """float64 (rows), mean 1: weights that make test and audit rows together look like the stream.

    The queue draws evenly over predicted labels, or prefers uncertain reviews, so rare labels and small
    margins are too many among the test rows; the audit rows are drawn at random and show how many there
    should be. Rows are sorted into cells by predicted label and, where a label has audit rows enough, by
    margin, so that the cells of one label hold equally many of them; labels with few share a cell. Each cell
    weighs in the end what it weighs among the audit rows: post-stratification, which assumes that inside a
    cell the queue draws at random. Holt, Smith: Post Stratification (Journal of the Royal Statistical
    Society A, 1979).

    Args:
        is_audit: bool (rows).
        predicted: int64 (rows): a number for each label by which the queue chose.
        margin: float (rows), in [0, 1]: the margin of the same score.

    Returns:
        None where the audit rows are too few for two cells: then each row counts once.
    """
    cell = _cells(is_audit, predicted, margin)
    rows = np.bincount(cell)
    audited = np.bincount(cell[is_audit], minlength=len(rows))
    if is_audit.sum() < 2 * _AUDIT_ROWS_A_CELL or np.count_nonzero(audited) < 2:
        return None
    weights = (np.maximum(audited, _HALF_A_ROW) / np.maximum(rows, 1))[cell]
    return np.asarray(weights / weights.mean())


def _cells(is_audit: Booleans, predicted: npt.NDArray[np.int64], margin: Floats) -> npt.NDArray[np.int64]:
    """int64 (rows): the cell of each row; 0 is the one that labels with few audit rows share."""
    cell = np.zeros(len(predicted), np.int64)
    following = 1
    for label in np.unique(predicted):
        of_label = predicted == label
        audited = margin[of_label & is_audit]
        parts = min(_CELLS_A_LABEL, len(audited) // _AUDIT_ROWS_A_CELL)
        if parts:
            edges = np.quantile(audited, np.arange(1, parts) / parts)
            cell[of_label] = following + np.searchsorted(edges, margin[of_label], side="right")
            following += parts
    return cell
