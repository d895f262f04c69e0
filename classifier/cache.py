"""Answers to texts seen before: a bounded memory, least recently used out first."""

import threading
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class RowAnswer(NamedTuple):
    """What a model says about one row.

    Attributes:
        logits: float32 (labels).
        embedding: float32 (hidden); None if it was not asked for.
    """

    logits: npt.NDArray[np.float32]
    embedding: npt.NDArray[np.float32] | None = None


class AnswerCache:
    """Answers by token ids: what the model would see decides, not how it was written.

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
