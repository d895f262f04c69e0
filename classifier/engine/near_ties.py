"""An engine in int8 whose near ties are answered once more, in a closer number format.

Rounding to bytes changes a label only where the two best labels are almost equally likely. Few texts are, so
answering those again costs little, and leaves labels as they are in the closer format.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from classifier.engine import Engine, EngineOutput, Row

_ERRORS = 2.0  # a tie is near if the two best logits differ by fewer mean errors of a difference


class NearTies:
    """Answers in int8, and near ties again.

    Whether a row is a near tie depends on its own logits alone, so that its answer depends on no other row.

    Args:
        fast: In int8.
        careful: The same model in bf16 or fp32.
        gap: Rows whose two best logits differ by less are near ties.
    """

    name = "packed"

    def __init__(self, fast: Engine, careful: Engine, gap: float) -> None:
        self._fast, self._careful, self._gap = fast, careful, gap

    def answer(self, rows: Sequence[Row], *, embed: bool = False) -> EngineOutput:
        """Logits, and embeddings if asked for, in the order of the rows."""
        found = self._fast.answer(rows, embed=embed)
        near = np.flatnonzero(near_ties(found.logits, self._gap))
        if len(near) == 0:
            return found
        again = self._careful.answer([rows[int(index)] for index in near], embed=embed)
        found.logits[near] = again.logits
        if found.embeddings is not None and again.embeddings is not None:
            found.embeddings[near] = again.embeddings
        return found


def near_ties(logits: npt.NDArray[np.float32], gap: float) -> npt.NDArray[np.bool_]:
    """Which rows are near ties: bool (rows); not those whose logits are not finite.

    Args:
        logits: (rows, labels).
        gap: As :class:`NearTies` takes it.
    """
    best = np.partition(logits, -2, axis=1)[:, -2:]
    return np.asarray(best[:, 1] - best[:, 0] < gap)


def gap_of(exact: npt.NDArray[np.float32], fast: npt.NDArray[np.float32]) -> float:
    """How far apart two logits may be in int8 and yet in the other order in fp32, save in rare cases.

    Args:
        exact: (rows, labels), logits in fp32.
        fast: The same rows in int8.
    """
    off = fast - exact
    return float(_ERRORS * np.mean(off.max(axis=1) - off.min(axis=1)))
