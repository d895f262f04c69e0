"""Joins a consumer group, and joins it again after a rebalance, however rarely the consumer is polled."""

from kafka import KafkaConsumer
from kafka.errors import KafkaTimeoutError
from kafka.future import Future


class Membership:
    """The membership of a subscribed consumer in its group; used by the thread that polls.

    kafka-python (3.0.12) joins within poll(), for as long as the poll lasts, and drops an answer that comes
    between two polls: that of the group's coordinator and, with a pattern, the list of topics, which it asks
    for before each try. A worker that scores a batch after each short poll could ask for ever and be given
    nothing. So the join runs on its own until it is done, and polls only look at it.

    Args:
        consumer: The consumer; :meth:`join` comes before each of its polls.
    """

    def __init__(self, consumer: KafkaConsumer) -> None:
        # kafka-python offers no other way to any of these
        self._coordinator = consumer._coordinator  # noqa: SLF001
        self._manager = consumer._manager  # noqa: SLF001
        self._cluster = consumer._client.cluster  # noqa: SLF001
        self._subscription = consumer._subscription  # noqa: SLF001
        self._joining: Future | None = None

    def join(self, timeout_seconds: float) -> bool:
        """Join where that is due.

        Args:
            timeout_seconds: How long to wait; a join that takes longer goes on, also between two calls.

        Returns:
            Whether no join is under way or due.

        Raises:
            KafkaError: If the brokers refuse, or cannot be asked.
        """
        if self._joining is None:
            # A join that poll() began and did not finish is marked in the first only (3.0.12).
            if not self._coordinator.rejoining and not self._coordinator.need_rejoin():
                return True
            self._joining = self._manager.call_soon(self._join)
        joining = self._joining
        try:
            self._manager.run(self._manager.wait_for, joining, timeout_seconds * 1000)
        except KafkaTimeoutError:
            if not joining.is_done:
                return False
            # It ended just then: what counts is how.
            if joining.failed():
                raise joining.exception from None
        finally:
            if joining.is_done:
                self._joining = None
        return not self._coordinator.need_rejoin()

    async def _join(self) -> None:
        """Runs on kafka-python's I/O thread, as the rebalance callbacks do that it calls."""
        if self._subscription.subscribed_pattern:
            # Topics that nobody has told yet would not be joined for: KAFKA-3949.
            await self._cluster.request_update()
        self._coordinator.request_rejoin()
        await self._coordinator.ensure_active_group_async()
