"""Kafka's own committed offset is a courtesy to its tools: never read, and never ahead of the rows."""

from collections.abc import Callable

from kafka import KafkaConsumer, TopicPartition
from kafka.structs import OffsetAndMetadata

from tests.faults.scene import Scene

Make = Callable[..., Scene]


def _in_group(stream: Scene, group: str) -> KafkaConsumer:
    consumer = KafkaConsumer(bootstrap_servers=stream.bootstrap, group_id=group, enable_auto_commit=False)
    consumer.assign([TopicPartition(stream.topic, 0)])
    return consumer


def test_an_offset_that_kafka_has_committed_is_not_where_reading_begins(scene: Make):
    stream = scene(partitions=1)
    stream.publish(100)
    tool = _in_group(stream, "misled")
    tool.commit({TopicPartition(stream.topic, 0): OffsetAndMetadata(50, "", -1)})
    tool.close()
    stream.worker(group="misled")
    (account,) = stream.wait_until_stored()
    assert account.start == 0


def test_kafka_hears_of_an_offset_only_when_its_rows_are_there(scene: Make):
    stream = scene(partitions=1)
    stream.publish(100)
    worker = stream.worker(group="one", stops={"scored": 2})
    worker.wait_for("at scored")
    tool = _in_group(stream, "one")
    committed = tool.committed(TopicPartition(stream.topic, 0)) or 0
    (account,) = stream.accounts()
    assert committed <= account.next < 100
    worker.go_on()
    stream.wait_until_stored()
    stream.wait_until(lambda _: tool.committed(TopicPartition(stream.topic, 0)) == 100)
    tool.close()
