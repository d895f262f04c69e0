"""What Kafka does to a stream: retention, transactions, compaction, topics made anew, partitions added."""

import time
from collections import defaultdict
from collections.abc import Callable

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

from broker.settings import KafkaSettings
from broker.subscription import Subscription
from broker.topics import TopicChoice
from tests.faults.accounting import read_accounts
from tests.faults.scene import Scene
from tests.faults.worker_process import PATIENCE_SECONDS

Make = Callable[..., Scene]


def _delete_records(kafka_admin: KafkaAdminClient, stream: Scene, partition: int, before: int) -> None:
    """What retention does, at once: forget everything before an offset."""
    kafka_admin.delete_records({TopicPartition(stream.topic, partition): before})


def _gaps(stream: Scene) -> dict[int, list[tuple[int, int]]]:
    return {account.partition: account.gaps for account in stream.accounts()}


def test_records_deleted_before_the_worker_starts_are_a_recorded_gap(
    scene: Make, kafka_admin: KafkaAdminClient
):
    stream = scene(partitions=2)
    stream.publish(100)
    first = stream.worker()
    stream.wait_until_stored()
    first.kill()
    stored = {account.partition: account.next for account in stream.accounts()}
    stream.publish(200)
    lost_until = stored[0] + 17
    _delete_records(kafka_admin, stream, 0, lost_until)
    second = stream.worker()
    stream.wait_until_stored()
    assert _gaps(stream) == {0: [(stored[0], lost_until)], 1: []}
    loud = second.wait_for_event("records_lost_to_retention")
    assert (loud["level"], loud["first_offset"], loud["next_offset"]) == ("error", stored[0], lost_until)


def test_records_deleted_under_a_reading_worker_are_a_gap_and_what_it_has_in_hand_is_stored(
    scene: Make, kafka_admin: KafkaAdminClient
):
    stream = scene(partitions=1)
    stream.publish(60)
    # A big open batch: what was delivered waits in it, unstored, while retention passes by.
    worker = stream.worker(consumer={"max_wait_seconds": 4, "max_batch_reviews": 4096}, stops={"polled": 1})
    worker.wait_for("at polled")
    in_hand = max(stream.truth[0]) + 1
    stream.publish(60)
    _delete_records(kafka_admin, stream, 0, in_hand + 30)
    worker.go_on()
    stream.wait_until_stored()
    (gaps,) = _gaps(stream).values()
    assert gaps == [(in_hand, in_hand + 30)]


def test_a_topic_whose_records_are_all_gone_is_a_gap_up_to_its_end(
    scene: Make, kafka_admin: KafkaAdminClient
):
    stream = scene(partitions=1)
    stream.publish(30)
    first = stream.worker()
    stream.wait_until_stored()
    first.kill()
    stream.publish(30)
    _delete_records(kafka_admin, stream, 0, 60)
    stream.worker()
    stream.wait_until(lambda accounts: accounts[0].next == 60)
    assert _gaps(stream) == {0: [(30, 60)]}


def test_aborted_records_and_transaction_markers_are_passed_over(scene: Make):
    stream = scene(partitions=1)
    producer = KafkaProducer(
        bootstrap_servers=stream.bootstrap, transactional_id=stream.topic, acks="all", linger_ms=0
    )
    producer.init_transactions()
    worker = stream.worker()
    try:
        for number, commits in enumerate([True, False, True, True, False]):
            producer.begin_transaction()
            sent = {}
            for item in range(7):
                value = b'{"id": "t%d-%d", "text": "transaction %d"}' % (number, item, number)
                sent[producer.send(stream.topic, value, partition=0)] = value
            producer.flush()
            if commits:
                stream.truth[0].update({future.get(10).offset: value for future, value in sent.items()})
                producer.commit_transaction()
            else:
                producer.abort_transaction()
    finally:
        producer.close()
    # Seven records and a marker each, the last ones too: the position stands at the very end of the log.
    stream.wait_until(lambda accounts: bool(accounts) and accounts[0].next == 40)
    stream.publish(20)
    accounts = stream.wait_until_stored()
    assert accounts[0].gaps == []
    assert not worker.events("records_lost_to_retention")


def test_an_open_transaction_holds_back_what_follows_and_loses_none_of_it(scene: Make):
    stream = scene(partitions=1)
    producer = KafkaProducer(
        bootstrap_servers=stream.bootstrap, transactional_id=stream.topic, acks="all", linger_ms=0
    )
    producer.init_transactions()
    producer.begin_transaction()
    value = b'{"id": "slow", "text": "a slow transaction"}'
    future = producer.send(stream.topic, value, partition=0)
    producer.flush()
    stream.publish(20)
    first = stream.worker()
    time.sleep(1)
    assert stream.accounts()[0].next == 0
    first.kill()
    stream.truth[0][future.get(10).offset] = value
    producer.commit_transaction()
    producer.close()
    stream.worker()
    stream.wait_until_stored()


def test_offsets_that_compaction_removed_are_passed_over(scene: Make, kafka_admin: KafkaAdminClient):
    stream = scene(
        partitions=1,
        configs={
            "cleanup.policy": "compact",
            "segment.ms": "100",
            "min.cleanable.dirty.ratio": "0.01",
            "max.compaction.lag.ms": "100",
        },
    )
    producer = KafkaProducer(bootstrap_servers=stream.bootstrap, acks="all", linger_ms=0)
    for number in range(200):
        value = b'{"id": "c%d", "text": "compacted %d"}' % (number % 5, number)
        future = producer.send(stream.topic, value, key=b"%d" % (number % 5), partition=0)
        stream.truth[0][future.get(10).offset] = value
        if number == 150:
            time.sleep(0.3)  # longer than segment.ms: the next record closes the segment
    producer.close()
    before = _kept_after_compaction(stream)
    stream.worker()
    _wait_for_position(stream, 200)
    # The log cleaner may come by again at any time, also while the worker reads.
    after = _offsets_in_log(stream)
    (account,) = read_accounts(stream.database_url, stream.topic)
    stored = account.reviews.keys()
    assert after <= stored <= before
    assert account.gaps == []
    account.check({offset: stream.truth[0][offset] for offset in stored})


def _wait_for_position(stream: Scene, end: int) -> None:
    """Wait until everything before an offset is stored or passed over, whatever the log still holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        accounts = read_accounts(stream.database_url, stream.topic)
        if accounts and accounts[0].next == end:
            return
        assert time.monotonic() < deadline, f"{accounts}\n" + "\n".join(w.explain() for w in stream.workers)
        time.sleep(0.1)


def _kept_after_compaction(stream: Scene) -> set[int]:
    """The offsets that an independent reader still finds, as soon as compaction has removed some."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        kept = _offsets_in_log(stream)
        if len(kept) < 150:
            return kept
        time.sleep(0.5)
    pytest.skip("this broker's log cleaner did not come by within a minute")


def _offsets_in_log(stream: Scene) -> set[int]:
    reader = KafkaConsumer(
        bootstrap_servers=stream.bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=500
    )
    reader.assign([TopicPartition(stream.topic, 0)])
    kept = {record.offset for record in reader}
    reader.close()
    return kept


@pytest.mark.parametrize("old", [5, 60], ids=["longer than the old one", "shorter than the old one"])
def test_a_topic_deleted_and_made_anew_is_a_new_stream_announced_and_whole(
    scene: Make, kafka_admin: KafkaAdminClient, old: int
):
    stream = scene(partitions=1)
    stream.publish(old)
    worker = stream.worker()
    (before,) = stream.wait_until_stored()
    kafka_admin.delete_topics([stream.topic])
    stream.truth_before[before.topic_id], stream.truth = stream.truth, defaultdict(dict)
    _create_again(kafka_admin, stream.topic, 1)
    stream.publish(30)
    stream.wait_until(lambda accounts: any(a.topic_id != before.topic_id and a.next == 30 for a in accounts))
    after, anew = stream.accounts()
    assert (after.start, after.next) == (before.start, before.next)
    assert anew.start == 0
    assert worker.wait_for_event("topic_made_anew")
    assert worker.is_alive()


def _create_again(kafka_admin: KafkaAdminClient, topic: str, partitions: int) -> None:
    from kafka.admin import NewTopic
    from kafka.errors import TopicAlreadyExistsError

    deadline = time.monotonic() + 120
    while True:
        try:
            kafka_admin.create_topics([NewTopic(topic, partitions, 1)])
        except TopicAlreadyExistsError:  # the deletion is on its way
            assert time.monotonic() < deadline
            continue
        return


def test_a_rebalance_that_ends_between_two_polls_is_taken_note_of(scene: Make, kafka_admin: KafkaAdminClient):
    """kafka-python forgets such a rebalance: polls that never wait make it happen nearly every time."""
    stream = scene(partitions=1)
    settings = KafkaSettings(bootstrap_servers=stream.bootstrap, group_id=stream.topic)
    subscription = Subscription(settings, TopicChoice((stream.topic,)), max_value_bytes=1_000_000)
    assigned: set[int] = set()
    deadline = time.monotonic() + 120
    while len(assigned) < 3 and time.monotonic() < deadline:
        subscription.poll(0)
        time.sleep(0.01)
        for change in subscription.changes():
            assigned |= {partition.partition for partition in change.partitions if change.assigned}
            if change.assigned and len(assigned) == 1:
                kafka_admin.create_partitions({stream.topic: 3})
    subscription.close()
    assert assigned == {0, 1, 2}


@pytest.mark.parametrize("start", ["earliest", "latest"])
def test_partitions_added_under_a_reading_worker_are_read_from_their_beginning(
    scene: Make, kafka_admin: KafkaAdminClient, start: str
):
    stream = scene(partitions=1)
    stream.worker(kafka={"start": start})
    stream.wait_until(lambda accounts: len(accounts) == 1)  # from here on it reads what comes
    stream.publish(30)
    stream.wait_until_stored()
    kafka_admin.create_partitions({stream.topic: 3})
    deadline = time.monotonic() + 120
    while len(stream.truth) < 3 and time.monotonic() < deadline:
        stream.publish(30)  # until the producer has noticed, too
    accounts = stream.wait_until_stored()
    assert sorted(account.partition for account in accounts) == [0, 1, 2]
    assert all(account.start == 0 for account in accounts)
