"""Calls an engine safely: each distinct row once, results cached, and only finite logits returned."""

import ctypes
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import structlog

from classifier.engine import Engine, EngineOutput, Row
from reviews.errors import ModelError

log = structlog.get_logger()

_TRIM_AFTER_TOKENS = 500_000


class RowAnswer(NamedTuple):
    """What a model says about one row.

    Attributes:
        logits: float32 (labels).
        embedding: float32 (hidden); None if it was not asked for.
    """

    logits: npt.NDArray[np.float32]
    embedding: npt.NDArray[np.float32] | None = None


class Answering:
    """Asks the engine what it has not answered before.

    Args:
        engine: Token ids to logits.
        exact: Makes an engine in fp32, for rows with non-finite logits; it is made when needed.
        cache_size: Distinct rows whose answers are remembered.
    """

    def __init__(self, engine: Engine, exact: Callable[[], Engine], cache_size: int = 0) -> None:
        self.engine = engine
        self._exact = exact
        self._cache = AnswerCache(cache_size)
        self._heap = open_heap()

    def logits(self, rows: Sequence[Row]) -> npt.NDArray[np.float32]:
        """float32 (rows, labels), all finite, in the order of the rows; at least one row.

        Raises:
            ModelError: If a row's logits are not finite in fp32 either.
        """
        return np.stack([answer.logits for answer in self._answer(rows, embed=False)])

    def embeddings(self, rows: Sequence[Row]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """The same logits, and embeddings, float32 (rows, hidden), in the same pass; at least one row.

        An embedding need not be finite: a row whose logits are finite has an answer.

        Raises:
            ModelError: If a row's logits are not finite in fp32 either, or the engine has no embeddings.
        """
        found = self._answer(rows, embed=True)
        embeddings = [answer.embedding for answer in found if answer.embedding is not None]
        if len(embeddings) < len(found):
            raise ModelError(f"The {self.engine.name} engine gives no embeddings of this model.")
        return np.stack([answer.logits for answer in found]), np.stack(embeddings)

    def _answer(self, rows: Sequence[Row], *, embed: bool) -> list[RowAnswer]:
        """One answer per row; rows that the cache has not, once through the engine."""
        keys = [row.tobytes() for row in rows]
        known = {key: found for key in keys if (found := self._cache.get(key, embed=embed)) is not None}
        missing = {key: row for key, row in zip(keys, rows, strict=True) if key not in known}
        if missing:
            logits, embeddings = self._finite(list(missing.values()), embed=embed)
            for index, key in enumerate(missing):
                embedding = None if embeddings is None else embeddings[index]
                known[key] = RowAnswer(logits[index], embedding)
                self._cache.put(key, known[key])
        return [known[key] for key in keys]

    def _finite(self, rows: Sequence[Row], *, embed: bool) -> EngineOutput:
        answers = self.engine.answer(rows, embed=embed)
        self._heap.used_for(sum(map(len, rows)))
        finite = np.isfinite(answers.logits).all(axis=1)
        if answers.embeddings is not None:
            finite &= np.isfinite(answers.embeddings).all(axis=1)
        broken = np.flatnonzero(~finite)
        if len(broken) == 0:
            return answers
        log.warning("non_finite_logits", rows=len(broken))
        again = self._exact().answer([rows[int(index)] for index in broken], embed=embed)
        answers.logits[broken] = again.logits
        if answers.embeddings is not None and again.embeddings is not None:
            answers.embeddings[broken] = again.embeddings
        still_broken = np.count_nonzero(~np.isfinite(answers.logits).all(axis=1))
        if still_broken:
            raise ModelError(
                f"The model's logits of {still_broken} row(s) are not finite, not in fp32 either."
            )
        return answers


class AnswerCache:
    """Answers by token ids, least recently used out first: what the model would see decides.

    An entry with an embedding takes 4 bytes for each number of it: 15 MB for 10,000 texts on MiniLM.

    Args:
        size: Most entries; 0 remembers nothing.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[bytes, RowAnswer] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes, *, embed: bool = False) -> RowAnswer | None:
        """The answer; None where there is none, or none with the embedding that is asked for."""
        with self._lock:
            found = self._entries.get(key)
            if found is None or (embed and found.embedding is None):
                return None
            self._entries.move_to_end(key)
            return found

    def put(self, key: bytes, answer: RowAnswer) -> None:
        """Remember an answer."""
        with self._lock:
            if self._size == 0:
                return
            embedding = None if answer.embedding is None else answer.embedding.copy()
            # Copies, as a view would keep its whole batch alive.
            self._entries[key] = RowAnswer(answer.logits.copy(), embedding)
            self._entries.move_to_end(key)
            if len(self._entries) > self._size:
                self._entries.popitem(last=False)


class Heap:
    """Asks the C library, now and then, to give freed memory back to the system.

    Batches differ in size, and what stays (answers, compiled products) fragments the heap: without this,
    glibc kept 400 MB more after 16,000 texts. A page that was given back costs 2 µs to get again, hence the
    pauses: with them it is about one part in a hundred of the time.

    Args:
        trim: Gives back what is free; None where the C library has no such function.
    """

    def __init__(self, trim: Callable[[], object] | None) -> None:
        self._trim = trim
        self._tokens = 0

    def used_for(self, tokens: int) -> None:
        """Count what went through a model, and trim when it is enough."""
        self._tokens += tokens
        if self._tokens >= _TRIM_AFTER_TOKENS:
            self.trim()

    def trim(self) -> None:
        """Give back what is free, such as what loading freed: 310 of 1,290 MiB with MiniLM in int8."""
        self._tokens = 0
        if self._trim is not None:
            self._trim()


def open_heap() -> Heap:
    """The heap of this process."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    return Heap(None if malloc_trim is None else lambda: malloc_trim(0))
