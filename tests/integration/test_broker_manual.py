"""The broker package as a story, on a real Kafka: a topic, records, and one member of a consumer group."""

import secrets
import time

from broker.publisher import OutgoingRecord, publish
from broker.settings import KafkaSettings
from broker.subscription import Record, Subscription, TopicPartition
from broker.topics import TopicChoice, create_topics, end_offset, topic_ends
from reviews.record_value import CutBytes


def _poll(subscription: Subscription, wanted: int) -> list[Record]:
    found: list[Record] = []
    deadline = time.monotonic() + 60
    while len(found) < wanted and time.monotonic() < deadline:
        for records in subscription.poll(0.2).values():
            found += records
    return found


def test_the_story_of_a_topic(kafka_bootstrap: str):
    settings = KafkaSettings(bootstrap_servers=kafka_bootstrap, group_id=secrets.token_hex(4))
    topic = f"manual-{secrets.token_hex(4)}"
    partition = TopicPartition(topic, 0)

    # A topic is made once; what is there stays as it is.
    assert create_topics(settings, [topic], partitions=1, replication_factor=1) == {topic: True}
    assert create_topics(settings, [topic], partitions=1, replication_factor=1) == {topic: False}

    # Publishing returns when every in-sync replica has every record.
    records = [
        OutgoingRecord(b"7", b"one"),
        OutgoingRecord(b"7", b"two" * 100_000),
        OutgoingRecord(b"8", None),
    ]
    assert publish(settings, topic, records) == 3
    assert end_offset(settings, topic, 0) == 3

    # A member of a group says what it was given. Nothing is delivered of it before its position is set: where
    # to begin is kept in the database, and Kafka is not asked.
    subscription = Subscription(settings, TopicChoice((topic,)), max_value_bytes=100_000)
    try:
        changes = []
        while not changes:
            assert subscription.poll(0.1) == {}
            changes = subscription.changes()
        assert [(change.assigned, change.partitions) for change in changes] == [(True, {partition})]
        assert subscription.seek(partition, 1)

        # Of a value that is too long come its beginning, and size and hash of the whole. None is a tombstone.
        long, tombstone = _poll(subscription, 2)
        assert (long.offset, type(long.value), long.value.full_bytes) == (1, CutBytes, 300_000)
        assert (tombstone.key, tombstone.value) == (b"8", None)
        assert subscription.position(partition) == 3
        assert subscription.bounds(partition) == (0, 3)

        # A topic has an id, which a topic made anew under its name does not share.
        assert topic_ends(settings, [topic])[topic].topic_id == subscription.topic_id(topic)
    finally:
        subscription.close()
