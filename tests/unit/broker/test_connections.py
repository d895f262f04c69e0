"""What becomes of kafka-python's errors: who may not is told so, everything else is waited for."""

import pytest
from kafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    NotCoordinatorError,
    TopicAuthorizationFailedError,
)

from broker.connections import describe_errors
from broker.settings import KafkaSettings
from reviews.errors import ReviewLoopError, Unavailable

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
