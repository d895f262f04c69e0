"""Answers to texts seen before: a bounded memory, least recently used out first."""

import threading
from collections import OrderedDict

import numpy as np
import numpy.typing as npt


class AnswerCache:
    """Logits by token ids: what the model would see decides, not how it was written.

    Args:
        size: Most entries; 0 remembers nothing.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[bytes, npt.NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> npt.NDArray[np.float32] | None:
        """float32 (labels), or None."""
        with self._lock:
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
            return found

    def put(self, key: bytes, logits: npt.NDArray[np.float32]) -> None:
        """Remember the logits: float32 (labels)."""
        with self._lock:
            if self._size == 0:
                return
            self._entries[key] = logits.copy()  # a view would keep its whole batch alive
            self._entries.move_to_end(key)
            if len(self._entries) > self._size:
                self._entries.popitem(last=False)
