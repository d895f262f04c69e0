"""What becomes of kafka-python's errors: who may not is told so, everything else is waited for."""

import sys
import threading
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    KafkaTimeoutError,
    NotCoordinatorError,
    TopicAuthorizationFailedError,
)

from broker.connections import describe_errors, start_client
from broker.settings import KafkaSettings
from reviews.errors import ReviewLoopError, Unavailable
from tests.unit.broker.peers import hangs_up, peer

SETTINGS = KafkaSettings(bootstrap_servers="kafka:9092", group_id="night-shift")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TopicAuthorizationFailedError("reviews"), "read or write the topic"),
        (GroupAuthorizationFailedError("night-shift"), "join the group 'night-shift': check kafka.group_id"),
        (ClusterAuthorizationFailedError(), "do this in the cluster"),
    ],
)
def test_a_user_who_may_not_is_told_so_and_not_tried_again(error: KafkaError, said: str):
    message = f"kafka:9092 does not let this user {said}"
    with pytest.raises(ReviewLoopError, match=message) as caught, describe_errors(SETTINGS):
        raise error
    assert not isinstance(caught.value, Unavailable)


def test_what_passes_by_itself_is_tried_again():
    with pytest.raises(Unavailable, match="cannot serve now: NotCoordinatorError"), describe_errors(SETTINGS):
        raise NotCoordinatorError


@pytest.mark.parametrize("kind", [KafkaConsumer, KafkaProducer, KafkaAdminClient])
def test_a_client_that_cannot_start_leaves_no_thread_and_no_socket_behind(kind: type):
    before = set(threading.enumerate()), _open_files()
    with peer(hangs_up) as server, pytest.raises(KafkaTimeoutError):
        start_client(kind, bootstrap_servers=server, bootstrap_timeout_ms=100)
    assert (set(threading.enumerate()), _open_files()) == before


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0
