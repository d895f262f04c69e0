"""Engines: token ids in, logits out. An engine does not know texts, labels or temperatures."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Row = npt.NDArray[np.int32]
"""int32 (tokens): the ids of one text or window, special tokens included."""


class EngineOutput(NamedTuple):
    """What a model says about some rows.

    Attributes:
        logits: float32 (rows, labels).
        embeddings: float32 (rows, hidden): the last layer's state at the first token, or at the last one
            where a token sees only those before it; None if not asked for.
    """

    logits: npt.NDArray[np.float32]
    embeddings: npt.NDArray[np.float32] | None = None


class Engine(Protocol):
    """What turns token ids into logits."""

    @property
    def name(self) -> str:
        """``packed`` or ``general``."""

    def answer(self, rows: Sequence[Row], *, embed: bool = False) -> EngineOutput:
        """Logits, and embeddings if asked for, in the order of the rows."""
