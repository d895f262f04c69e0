"""A broker that takes a connection and never answers to TLS is given up."""

import socket
from contextlib import closing

import pytest
from kafka.errors import KafkaTimeoutError
from kafka.net.selector import NetworkSelector
from kafka.net.transport import KafkaSSLTransport

from broker import connections
from tests.unit.broker.peers import is_silent, peer


def test_a_broker_that_never_answers_to_tls_is_given_up_and_its_connection_closed(monkeypatch):
    monkeypatch.setattr(connections, "_HANDSHAKE_SECONDS", 0.1)
    connections.bound_handshakes()
    with peer(is_silent) as server, closing(NetworkSelector()) as net:
        host, _, port = server.partition(":")
        connection = socket.create_connection((host, int(port)))
        connection.setblocking(False)
        transport = KafkaSSLTransport(net, connection, host=host)
        with pytest.raises(KafkaTimeoutError):
            net.run(transport.handshake)
        assert transport._sock.fileno() == -1
