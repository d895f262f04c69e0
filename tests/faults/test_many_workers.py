"""Many workers that join and leave within a minute: nothing is lost, and the group comes to rest."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager

from pydantic import SecretStr

from broker.settings import KafkaSettings
from broker.subscription import Subscription
from broker.topics import TopicChoice
from consumer.parsing import parse_reviews
from consumer.pipeline import ReviewPipeline
from consumer.settings import BreakerSettings, ConsumerSettings
from consumer.source import Source
from consumer.subscribing import subscribe
from consumer.worker import Worker
from storage.database import Database
from storage.settings import DatabaseSettings
from storage.stream.partitions import PartitionStore
from storage.stream.review_writer import ReviewWriter
from tests.faults.fake_classifier import VERSIONS, FakeClassifier
from tests.faults.scene import Scene

Make = Callable[..., Scene]

WORKERS, PARTITIONS = 32, 64
PAUSE_SECONDS = 0.4
QUIET_SECONDS = 5.0
_A_DATABASE = 8  # workers that share a pool of connections
_OPTIONS = ConsumerSettings(
    max_batch_reviews=40,
    max_wait_seconds=0.1,
    retry_max_seconds=0.5,
    breaker=BreakerSettings(max_invalid_share=1.0, max_invalid_run=0),
)


class Member(threading.Thread):
    """A worker as a thread, with a classifier that takes no time."""

    def __init__(self, kafka: KafkaSettings, database: Database) -> None:
        super().__init__(daemon=True)
        self._kafka = kafka
        self._database = database
        self.stopping = threading.Event()
        self.subscription: Subscription | None = None
        self.worker: Worker | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._work()
        except BaseException as err:  # noqa: BLE001  the test asserts that there is none
            self.error = err

    def _work(self) -> None:
        choice = TopicChoice((self._kafka.reviews_topic,))
        self.subscription = subscribe(self._kafka, choice, _OPTIONS, self.stopping)
        try:
            source = Source(_OPTIONS, self.subscription, PartitionStore(self._database), parse_reviews)
            classifier = FakeClassifier(VERSIONS[0])
            pipeline = ReviewPipeline(_OPTIONS, lambda: (classifier,), ReviewWriter(self._database))
            self.worker = Worker(_OPTIONS, source, pipeline, stopping=self.stopping)
            self.worker.run()
        finally:
            self.subscription.close()

    @property
    def generation(self) -> int:
        """How often the group has been put together anew, as this member knows it."""
        assert self.subscription is not None
        return int(self.subscription._consumer.group_metadata().generation_id)


@contextmanager
def _databases(url: str) -> Iterator[list[Database]]:
    with ExitStack() as stack:
        settings = DatabaseSettings(url=SecretStr(url))
        yield [stack.enter_context(closing(Database(settings))) for _ in range(-(-WORKERS // _A_DATABASE))]


def _kafka(stream: Scene) -> KafkaSettings:
    return KafkaSettings(
        bootstrap_servers=stream.bootstrap, reviews_topic=stream.topic, group_id=f"{stream.topic}-many"
    )


def test_workers_that_join_and_leave_within_a_minute_lose_nothing_and_cause_no_storm(scene: Make):
    stream = scene(partitions=PARTITIONS)
    kafka = _kafka(stream)
    with _databases(stream.database_url) as databases:
        members = [Member(kafka, databases[number // _A_DATABASE]) for number in range(WORKERS)]
        stream.publish(500)
        began = time.monotonic()
        for member in members:
            member.start()
            stream.publish(20)
            time.sleep(PAUSE_SECONDS)
        for member in members[1:]:
            member.stopping.set()
            stream.publish(20)
            time.sleep(PAUSE_SECONDS)
        took = time.monotonic() - began
        for member in members[1:]:
            member.join(60)
        stream.wait_until_stored()
        last = members[0]
        settled = last.generation
        time.sleep(QUIET_SECONDS)
        assert last.generation == settled, "the group is put together anew although nobody comes or goes"
        last.stopping.set()
        last.join(60)
    assert [member.error for member in members] == [None] * WORKERS
    assert not any(member.is_alive() for member in members)
    # A cooperative group is put together twice for each member that comes or goes by itself.
    assert settled <= 2 * (2 * WORKERS - 1) + 2, f"{settled} generations in {took:.0f} s"
    lost = sum(member.worker.totals.lost_partitions for member in members if member.worker is not None)
    assert lost <= PARTITIONS, f"{lost} batches were read in vain"
