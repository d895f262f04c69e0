"""What the layers that several adapters leave as they are make of a batch: computed by the first to ask."""

import threading
from collections import OrderedDict
from dataclasses import fields
from weakref import WeakKeyDictionary

from torch import Tensor

from classifier.engine.encoder import Encoder
from classifier.engine.linear import LoraLinear

Key = tuple[object, ...]
"""What decides the states of a batch: its token ids, where its texts begin, and how they are computed."""

_LIMIT_BYTES = 128 * 2**20  # a worker's batch of 32,768 tokens on a base of 768 numbers in fp32 fits
_KEPT_FOR_BATCHES = 200


class LowerStates:
    """The states behind the lowest layers of one base, for its engines that score the same batches.

    An engine that scores a batch which another one has scored continues from there. What all engines have
    read is dropped at once; what one of them never asks for, after some more batches. When memory is full,
    new states are not kept: those that are there are about to be read.

    Args:
        limit_bytes: Most bytes of states.
    """

    def __init__(self, limit_bytes: int = _LIMIT_BYTES) -> None:
        self._limit = limit_bytes
        self._layers: WeakKeyDictionary[object, int] = WeakKeyDictionary()
        self._states: OrderedDict[Key, tuple[Tensor, int, int]] = OrderedDict()  # with readers left, and age
        self._bytes = 0
        self._batches = 0
        self._lock = threading.Lock()

    @property
    def held_bytes(self) -> int:
        """The bytes of the states that are kept now."""
        return self._bytes

    def join(self, engine: object, encoder: Encoder) -> None:
        """Let an engine take part, for as long as it lives, if its adapter leaves the lowest layer alone."""
        if (layers := unadapted_layers(encoder)) > 0:
            with self._lock:
                self._layers[engine] = layers

    def common_layers(self, engine: object) -> int:
        """How many layers the engine has in common with others; 0 if it is alone."""
        with self._lock:
            return min(self._layers.values()) if len(self._layers) > 1 and engine in self._layers else 0

    def take(self, key: Key) -> Tensor | None:
        """The states of a batch, (tokens, hidden), not to be changed; None if they are not kept."""
        with self._lock:
            found = self._states.get(key)
            if found is None:
                return None
            states, readers, age = found
            if readers > 1:
                self._states[key] = (states, readers - 1, age)
            else:
                self._drop(key)
            return states

    def keep(self, key: Key, states: Tensor) -> None:
        """Keep the states of a batch for the other engines."""
        with self._lock:
            self._batches += 1
            while self._states and self._batches - next(iter(self._states.values()))[2] > _KEPT_FOR_BATCHES:
                self._drop(next(iter(self._states)))
            readers = len(self._layers) - 1
            if readers > 0 and key not in self._states and self._bytes + states.nbytes <= self._limit:
                self._states[key] = (states, readers, self._batches)
                self._bytes += states.nbytes

    def _drop(self, key: Key) -> None:
        self._bytes -= self._states.pop(key)[0].nbytes


def unadapted_layers(encoder: Encoder) -> int:
    """How many of the lowest layers are the base's own; the last one never counts: it reads first tokens."""
    for index, layer in enumerate(encoder.layers[:-1]):
        if any(isinstance(getattr(layer, part.name), LoraLinear) for part in fields(layer)):
            return index
    return len(encoder.layers) - 1
