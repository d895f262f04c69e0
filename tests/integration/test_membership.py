"""A member of a consumer group that polls shortly and rarely, as a worker does that scores in between."""

import secrets
import time

import pytest
from kafka.cluster import ClusterMetadata
from kafka.coordinator.base import BaseCoordinator

from broker.settings import KafkaSettings
from broker.subscription import Subscription, TopicPartition
from broker.topics import TopicChoice
from tests.conftest import TopicFactory

_ANSWER_SECONDS = 0.3
_POLLS = 100


@pytest.fixture
def slow_brokers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answer about topics, and each to a join, takes longer than a poll and what follows it."""
    ask, join = ClusterMetadata._do_refresh_metadata, BaseCoordinator._do_join_and_sync_async

    async def ask_slowly(cluster: ClusterMetadata, node: object) -> None:
        await cluster._manager._net.sleep(_ANSWER_SECONDS)
        await ask(cluster, node)

    async def join_slowly(coordinator: BaseCoordinator) -> bytes:
        answer: bytes = await join(coordinator)
        await coordinator._manager._net.sleep(_ANSWER_SECONDS)
        return answer

    monkeypatch.setattr(ClusterMetadata, "_do_refresh_metadata", ask_slowly)
    monkeypatch.setattr(BaseCoordinator, "_do_join_and_sync_async", join_slowly)


@pytest.mark.parametrize("by_pattern", [False, True])
def test_an_answer_that_comes_between_two_polls_is_not_lost(
    kafka_bootstrap: str, topic: TopicFactory, slow_brokers: None, *, by_pattern: bool
):
    name = topic(2)
    settings = KafkaSettings(bootstrap_servers=kafka_bootstrap, group_id=secrets.token_hex(4))
    choice = TopicChoice(patterns=(rf"{name}.*",)) if by_pattern else TopicChoice((name,))
    subscription = Subscription(settings, choice, max_value_bytes=1_000)
    try:
        assigned = set[TopicPartition]()
        for _ in range(_POLLS):
            subscription.poll(0.05)
            assigned = assigned.union(*(change.partitions for change in subscription.changes()))
            if assigned:
                break
            time.sleep(0.4)  # a batch is scored
        assert assigned == {TopicPartition(name, 0), TopicPartition(name, 1)}
        assert subscription.is_member()
    finally:
        subscription.close()


def test_closing_ends_a_join_that_is_under_way(kafka_bootstrap: str, topic: TopicFactory, slow_brokers: None):
    settings = KafkaSettings(bootstrap_servers=kafka_bootstrap, group_id=secrets.token_hex(4))
    subscription = Subscription(settings, TopicChoice((topic(1),)), max_value_bytes=1_000)
    assert subscription.poll(0) == {}
    subscription.close()
    assert not subscription.is_member()
