"""Why a broker does not let us in: said where it is sure, and never for one that is merely away."""

import pytest

from broker.diagnosis import diagnose
from broker.settings import KafkaSettings
from reviews.errors import ReviewLoopError
from tests.unit.broker.peers import Answer, hangs_up, peer, resets, speaks_http, speaks_kafka_plainly


def _diagnose(server: str, protocol: str) -> None:
    settings = KafkaSettings(bootstrap_servers=server, security_protocol=protocol)
    diagnose(settings, {"bootstrap_servers": [server]})


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL"])
@pytest.mark.parametrize("answer", [resets, hangs_up])
def test_nothing_is_wrong_for_sure_with_a_broker_that_is_away(protocol: str, answer: Answer):
    with peer(answer) as server:
        _diagnose(server, protocol)


@pytest.mark.parametrize("answer", [speaks_http, speaks_kafka_plainly])
def test_a_port_that_answers_to_something_else_than_tls_is_told_of(answer: Answer):
    with (
        peer(answer) as server,
        pytest.raises(ReviewLoopError, match=f"{server} does not speak TLS, but kafka.security_protocol is"),
    ):
        _diagnose(server, "SSL")
