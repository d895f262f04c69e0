"""One stage of the pipeline: a thread that takes from one bounded queue, works, and puts into the next."""

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, Full, Queue
from typing import Generic, TypeVar

_In = TypeVar("_In")
_Out = TypeVar("_Out")

_WAKE_SECONDS = 0.2


class Stage(Generic[_In, _Out]):
    """Runs ``work`` on items in order; the first error ends the stage and is kept for whoever asks.

    Args:
        name: Of the thread.
        work: Takes every item that waits, up to ``take``, and returns what goes on.
        inbox: Where items come from; bounded, so that a slow stage slows those before it.
        outbox: Where results go.
        take: How many waiting items one call of ``work`` may get.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[list[_In]], _Out],
        inbox: "Queue[_In]",
        outbox: "Queue[_Out]",
        *,
        take: int = 1,
    ) -> None:
        self._work = work
        self._inbox = inbox
        self._outbox = outbox
        self._take = take
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.error: BaseException | None = None

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """Stop as soon as the item in hand is done; what waits is left."""
        self._stopping.set()

    def join(self, timeout_seconds: float) -> bool:
        """Wait for the end; whether it came."""
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                items = self._next_items()
                if items:
                    self._hand_on(self._work(items))
        except BaseException as err:  # noqa: BLE001  the main loop raises it
            self.error = err

    def _next_items(self) -> list[_In]:
        items: list[_In] = []
        with suppress(Empty):
            items.append(self._inbox.get(timeout=_WAKE_SECONDS))
            while len(items) < self._take:
                items.append(self._inbox.get_nowait())
        return items

    def _hand_on(self, result: _Out) -> None:
        while not self._stopping.is_set():
            try:
                self._outbox.put(result, timeout=_WAKE_SECONDS)
            except Full:
                continue
            return
