"""Rows through an engine with its safety net: each distinct row once, no answer that is not a number."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import structlog

from classifier.cache import AnswerCache, RowAnswer
from classifier.heap import open_heap
from reviews.errors import ModelError

if TYPE_CHECKING:
    from classifier.engine import Answers, Engine, Row

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
        self._heap = open_heap()

    def logits(self, rows: Sequence["Row"]) -> npt.NDArray[np.float32]:
        """float32 (rows, labels), all finite, in the order of the rows; at least one row.

        Raises:
            ModelError: If a row has no finite answer in fp32 either.
        """
        return np.stack([answer.logits for answer in self._answer(rows, embed=False)])

    def embeddings(self, rows: Sequence["Row"]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """The same logits, and embeddings, float32 (rows, hidden), in the same pass; at least one row.

        An embedding need not be finite: a row whose logits are numbers has an answer.

        Raises:
            ModelError: If a row has no finite answer in fp32 either, or the engine has no embeddings.
        """
        found = self._answer(rows, embed=True)
        embeddings = [answer.embedding for answer in found if answer.embedding is not None]
        if len(embeddings) < len(found):
            raise ModelError(f"The {self.engine.name} engine gives no embeddings of this model.")
        return np.stack([answer.logits for answer in found]), np.stack(embeddings)

    def _answer(self, rows: Sequence["Row"], *, embed: bool) -> list[RowAnswer]:
        """One answer per row; rows that the cache has not, once through the engine."""
        keys = [row.tobytes() for row in rows]
        known = {key: found for key in keys if (found := self._cache.get(key, embed=embed)) is not None}
        missing = {key: row for key, row in zip(keys, rows, strict=True) if key not in known}
        if missing:
            answers = self._finite(list(missing.values()), embed=embed)
            for index, key in enumerate(missing):
                known[key] = _row_answer(answers, index)
                self._cache.put(key, known[key])
        return [known[key] for key in keys]

    def _finite(self, rows: Sequence["Row"], *, embed: bool) -> "Answers":
        answers = self.engine.answer(rows, embed=embed)
        self._heap.used_for(sum(map(len, rows)))
        finite = np.isfinite(answers.logits).all(axis=1)
        if answers.embeddings is not None:
            finite &= np.isfinite(answers.embeddings).all(axis=1)
        broken = np.flatnonzero(~finite)
        if len(broken) == 0:
            return answers
        log.warning("answer_is_no_number", texts=len(broken))
        again = self._exact().answer([rows[int(index)] for index in broken], embed=embed)
        answers.logits[broken] = again.logits
        if answers.embeddings is not None and again.embeddings is not None:
            answers.embeddings[broken] = again.embeddings
        if not np.isfinite(answers.logits).all():
            raise ModelError(f"The model's answer to {len(broken)} text(s) is not a number, in fp32 neither.")
        return answers


def _row_answer(answers: "Answers", index: int) -> RowAnswer:
    embeddings = answers.embeddings
    return RowAnswer(answers.logits[index], None if embeddings is None else embeddings[index])
