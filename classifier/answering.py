"""Rows through an engine with its safety net: each distinct row once, no answer that is not a number."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import structlog

from classifier.cache import AnswerCache
from reviews.errors import ModelError

if TYPE_CHECKING:
    from classifier.engine import Engine, Row

log = structlog.get_logger()


class Answering:
    """Asks the engine what it has not answered before.

    Args:
        engine: Token ids to logits.
        exact: Makes an engine in fp32, for rows whose answer is not a number; it is made when needed.
        cache_size: Distinct rows whose answers are remembered.
    """

    def __init__(self, engine: "Engine", exact: Callable[[], "Engine"], cache_size: int = 0) -> None:
        self.engine = engine
        self._exact = exact
        self._cache = AnswerCache(cache_size)

    def logits(self, rows: Sequence["Row"]) -> npt.NDArray[np.float32]:
        """float32 (rows, labels), all finite, in the order of the rows; at least one row.

        Raises:
            ModelError: If a row has no finite answer in fp32 either.
        """
        keys = [row.tobytes() for row in rows]
        known = {key: found for key in keys if (found := self._cache.get(key)) is not None}
        missing = {key: row for key, row in zip(keys, rows, strict=True) if key not in known}
        if missing:
            for key, answer in zip(missing, self._finite(list(missing.values())), strict=True):
                known[key] = answer
                self._cache.put(key, answer)
        return np.stack([known[key] for key in keys])

    def embeddings(self, rows: Sequence["Row"]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Logits, float32 (rows, labels), and embeddings, float32 (rows, hidden), in one pass.

        Raises:
            ModelError: If a row's logits are not finite.
        """
        answers = self.engine.answer(rows, embed=True)
        if answers.embeddings is None or not np.isfinite(answers.logits).all():
            raise ModelError("The model's answer to a text is not a number; score it without its embedding.")
        return answers.logits, answers.embeddings

    def _finite(self, rows: Sequence["Row"]) -> npt.NDArray[np.float32]:
        logits = self.engine.answer(rows).logits
        broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
        if len(broken) == 0:
            return logits
        log.warning("answer_is_no_number", texts=len(broken))
        logits[broken] = self._exact().answer([rows[int(index)] for index in broken]).logits
        if not np.isfinite(logits).all():
            raise ModelError(f"The model's answer to {len(broken)} text(s) is not a number, in fp32 neither.")
        return logits
