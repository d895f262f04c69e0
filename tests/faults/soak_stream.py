"""The stream of a soak: a publisher that never gives up, and a reader that notes what Kafka delivers."""

import contextlib
import random
import threading
import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from tests.faults.accounting import Truth
from tests.faults.scene import message


class Publisher:
    """Publishes messages of every kind, now and then in transactions, half of which it aborts.

    Attributes:
        aborted: How many transactions it aborted.
    """

    def __init__(self, bootstrap: str, topic: str, seed: int) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._random = random.Random(seed)
        self._stopping = threading.Event()
        self._published = 0
        self.aborted = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(60)

    def _run(self) -> None:
        while not self._stopping.is_set():
            # What a send that failed left behind, nobody knows here: the reader will see it.
            with contextlib.suppress(KafkaError):
                self._publish_some()
            self._stopping.wait(0.5)

    def _publish_some(self) -> None:
        in_transaction = self._random.random() < 0.3
        options = {"transactional_id": f"{self._topic}-soak"} if in_transaction else {}
        producer = KafkaProducer(
            bootstrap_servers=self._bootstrap, acks="all", linger_ms=5, max_block_ms=5_000, **options
        )
        try:
            for _ in range(self._random.randrange(1, 6)):
                if in_transaction:
                    self._in_transaction(producer)
                else:
                    self._send(producer, 100)
                    producer.flush(10)
                if self._stopping.wait(0.2):
                    return
        finally:
            producer.close(timeout=2)

    def _in_transaction(self, producer: KafkaProducer) -> None:
        if self._published_in != id(producer):
            producer.init_transactions()
            self._published_in = id(producer)
        producer.begin_transaction()
        self._send(producer, 30)
        producer.flush(10)
        if self._random.random() < 0.5:
            producer.commit_transaction()
        else:
            producer.abort_transaction()
            self.aborted += 1

    _published_in = 0

    def _send(self, producer: KafkaProducer, count: int) -> None:
        for _ in range(count):
            self._published += 1
            producer.send(self._topic, message(self._random, self._published), key=self._random.randbytes(6))


class TopicReader:
    """Reads the topic on its own and fills the truth; what is deleted from Kafka it has seen before.

    Args:
        truth: Filled with what is delivered, by partition and offset.
    """

    def __init__(self, bootstrap: str, topic: str, partitions: int, truth: Truth) -> None:
        self._truth = truth
        self._places = [TopicPartition(topic, number) for number in range(partitions)]
        self._positions = dict.fromkeys(range(partitions), 0)
        self._stopping = threading.Event()
        self._consumer = KafkaConsumer(
            bootstrap_servers=bootstrap,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            reconnect_backoff_max_ms=2_000,
            fetch_max_wait_ms=100,
        )
        self._consumer.assign(self._places)
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def seen(self, partition: int) -> int:
        """The offset behind the last record that was read."""
        return self._positions[partition]

    def ends(self) -> dict[int, int]:
        """Where the partitions end now, behind the last stable record."""
        with self._lock:
            found = self._consumer.end_offsets(self._places, timeout_ms=60_000)
        return {place.partition: offset for place, offset in found.items()}

    def read_up_to(self, ends: dict[int, int], seconds: float = 60) -> None:
        """Wait until all of it is read."""
        deadline = time.monotonic() + seconds
        while any(self._positions[partition] < end for partition, end in ends.items()):
            assert time.monotonic() < deadline, f"read {self._positions} of {ends}"
            time.sleep(0.1)

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(10)
        self._consumer.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            with self._lock:
                for place, records in self._consumer.poll(timeout_ms=100).items():
                    self._truth[place.partition].update({record.offset: record.value for record in records})
                for place in self._places:
                    self._positions[place.partition] = self._consumer.position(place, timeout_ms=500) or 0
            time.sleep(0.02)


def delete_records(bootstrap: str, topic: str, partition: int, before: int) -> None:
    """What retention does, at once: forget everything of a partition before an offset."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        admin.delete_records({TopicPartition(topic, partition): before})
    finally:
        admin.close()
