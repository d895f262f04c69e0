"""Forwards stored dead letters to their Kafka topic, in a thread beside the main path."""

import threading
from collections.abc import Callable, Sequence

import structlog

from reviews.dead_letter import StoredLetter
from reviews.retry import Outage
from storage.stream.dead_letters import DeadLetterStore

log = structlog.get_logger()


class Forwarder:
    """A thread that publishes dead letters after they were committed, each at least once.

    The database is the outbox: a letter is marked in the transaction that stores it, and the mark goes when
    the topic has it. So the main path waits for nothing, and a worker that is killed in between, or a broker
    that refuses for hours, delays a letter but loses none: the next attempt, of this worker or another, goes
    on where the mark still is. While the brokers refuse, the attempts grow rarer.

    Args:
        outbox: The letters that are marked.
        publish: Returns when the topic has them.
        poll_seconds: How often to look for marked letters.
        retry_max_seconds: The longest pause between two attempts.
    """

    def __init__(
        self,
        outbox: DeadLetterStore,
        publish: Callable[[Sequence[StoredLetter]], None],
        *,
        poll_seconds: float,
        retry_max_seconds: float,
    ) -> None:
        self._outbox = outbox
        self._publish = publish
        self._poll_seconds = poll_seconds
        self._stopping = threading.Event()
        self._outage = Outage(
            "dead_letters_not_forwarded", "dead_letters_forwarded_again", longest_seconds=retry_max_seconds
        )
        self._thread = threading.Thread(target=self._run, name="forward", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self, timeout_seconds: float) -> bool:
        """Forward what is marked by now and end; whether it ended in time (the rest keeps its marks)."""
        self._stopping.set()
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            is_last = self._stopping.is_set()
            pause = self._forward_all()
            if is_last:
                return
            self._stopping.wait(pause)

    def _forward_all(self) -> float:
        """Forward until nothing is marked; the seconds until the next attempt."""
        try:
            while (letters := self._outbox.forward(self._publish)) > 0:
                log.info("dead_letters_forwarded", letters=letters)
        except Exception as err:  # noqa: BLE001  the outage logs it, and the marks stay
            return self._outage.failed(err)
        self._outage.ended()
        return self._poll_seconds
