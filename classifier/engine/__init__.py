"""Forward passes: token ids in, logits out. An engine knows nothing of texts, labels or temperatures."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt


class Engine(Protocol):
    """What turns token ids into logits."""

    def logits(self, rows: Sequence[npt.NDArray[np.int32]]) -> npt.NDArray[np.float32]:
        """float32 (rows, labels), in the order of the rows."""
        ...
