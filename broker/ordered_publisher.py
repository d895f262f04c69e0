"""Publishing for sinks: for a long time, in order, each batch acknowledged before the next one begins."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from kafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from broker.connections import describe_errors, open_producer
from broker.publisher import OutgoingRecord, close_producer, require_topic, start_sending
from broker.settings import KafkaSettings
from reviews.errors import Unavailable

SENDING_SECONDS = 20.0
"""A batch that is not acknowledged within this time has failed, and no record of it is sent later."""
_BATCH_BYTES = 512 * 1024  # what one partition gets of most batches; no topic refuses that for its size
_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)


class OrderedPublisher:
    """Publishes batches of records to one topic; those of one key arrive in their order.

    After a failure the topic may have any beginning of the batch, partition by partition, and nothing behind
    it. Publishing the batch again repeats that beginning.

    Args:
        settings: How to reach the brokers.
        topic: Where to.
    """

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self._producer: Any = None

    def connect(self) -> None:
        """Make sure that there is a connection, before anything waits for one with locks in its hands.

        Raises:
            Unavailable: If no broker answers.
            ReviewLoopError: If the topic does not exist or may not be written.
        """
        if self._producer is None:
            require_topic(self._settings, self._topic)
            self._producer = open_producer(self._settings, batch_bytes=_BATCH_BYTES)

    def publish(self, records: Sequence[OutgoingRecord], smaller: Callable[[int], OutgoingRecord]) -> None:
        """Publish records and return when every in-sync replica has all of them.

        Args:
            records: In order.
            smaller: Another form of the record at a place, for a topic that refuses it for its size.

        Raises:
            Unavailable: If they were not acknowledged in time.
            ReviewLoopError: If the topic may not be written any more.
        """
        self.connect()
        try:
            with describe_errors(self._settings):
                try:
                    self._send(records)
                except _TOO_LARGE:
                    self.close()
                    self._send_one_by_one(records, smaller)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the connection; what was not acknowledged is not sent any more."""
        producer, self._producer = self._producer, None
        if producer is not None:
            _stop(producer)
            close_producer(producer)

    def _send(self, records: Sequence[OutgoingRecord]) -> None:
        """Send a batch.

        Raises:
            KafkaError: What went wrong first.
        """
        producer = self._producer
        failures: list[BaseException] = []

        def fail(err: BaseException) -> None:
            # In the sender's own thread, before it takes up the next batch: what is behind a record that
            # failed must not overtake it.
            _stop(producer)
            failures.append(err)

        deadline = time.monotonic() + SENDING_SECONDS
        futures = []
        try:
            for record in records:
                futures.append(start_sending(producer, self._topic, record))
                futures[-1].add_errback(fail)
                if failures:
                    break
            producer.flush(timeout=SENDING_SECONDS)  # no other records come that a batch could wait for
            for future in futures:
                future.get(timeout=max(0.0, deadline - time.monotonic()))
        except KafkaError as err:
            _stop(producer)
            raise next(iter(failures), err) from None

    def _send_one_by_one(
        self, records: Sequence[OutgoingRecord], smaller: Callable[[int], OutgoingRecord]
    ) -> None:
        """Slowly, for a batch with a record that is too large: each is acknowledged before the next."""
        # Not idempotent: a refusal makes such a producer useless, and nothing is in flight beside a record.
        producer = open_producer(self._settings, idempotent=False)
        try:
            for place, record in enumerate(records):
                if not self._takes(producer, record) and not self._takes(producer, smaller(place)):
                    raise Unavailable(
                        f"The topic '{self._topic}' refuses even a row without its text: raise its "
                        "max.message.bytes."
                    )
        finally:
            close_producer(producer)

    def _takes(self, producer: Any, record: OutgoingRecord) -> bool:
        try:
            start_sending(producer, self._topic, record).get(timeout=SENDING_SECONDS)
        except _TOO_LARGE:
            return False
        return True


def _stop(producer: Any) -> None:
    """Send nothing more, at once; kafka-python's own close() would first send what is in its buffers."""
    with suppress(AttributeError):
        producer._sender.force_close()  # noqa: SLF001  it has no public way to stop
