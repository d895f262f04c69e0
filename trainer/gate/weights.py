"""How many reviews of the stream each labelled row speaks for."""

import numpy as np

from trainer.gate.evidence import Booleans, Floats

_CELLS = 5
_AUDIT_ROWS_A_CELL = 20


def stream_weights(is_audit: Booleans, margin: Floats) -> Floats | None:
    """float64 (rows), mean 1: weights that make test and audit rows together look like the stream.

    The queue prefers uncertain reviews, so they are too many among the test rows; the audit rows are drawn
    at random and show how many there should be. Rows are sorted into cells of margin that hold equally many
    audit rows, and each cell weighs the same in the end: post-stratification, which assumes that inside a
    cell the queue draws at random. Holt, Smith: Post Stratification (Journal of the Royal Statistical
    Society A, 1979).

    Args:
        is_audit: bool (rows).
        margin: float (rows), in [0, 1]: the one by which the queue chose, from when the review was scored.

    Returns:
        None where the audit rows are too few for two cells: then each row counts once.
    """
    cells = min(_CELLS, int(is_audit.sum()) // _AUDIT_ROWS_A_CELL)
    if cells < 2:
        return None
    edges = np.quantile(margin[is_audit], np.arange(1, cells) / cells)
    cell = np.searchsorted(edges, margin, side="right")
    audit_share = np.bincount(cell[is_audit], minlength=cells) / is_audit.sum()
    share = np.bincount(cell, minlength=cells) / len(cell)
    return np.asarray((audit_share / np.where(share > 0, share, 1))[cell])
