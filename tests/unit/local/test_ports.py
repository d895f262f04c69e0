import socket

import pytest

from reviewloop.local.places import HOST, free_port, is_free


@pytest.mark.parametrize("interface", [HOST, "0.0.0.0"])  # noqa: S104 -- a listener that is in the way
def test_a_port_with_a_listener_is_not_free(interface: str):
    with socket.socket() as listener:
        listener.bind((interface, 0))
        listener.listen()
        assert not is_free(listener.getsockname()[1])


def test_a_port_is_free_again_when_its_listener_is_gone_though_its_connections_linger():
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as both services do
        listener.bind((HOST, 0))
        listener.listen()
        port = listener.getsockname()[1]
        with socket.create_connection((HOST, port)):
            server_side, _ = listener.accept()
            server_side.close()  # this side closes first, so its end stays in TIME_WAIT
    assert is_free(port)


def test_a_chosen_port_can_be_listened_on():
    port = free_port()
    with socket.socket() as listener:
        listener.bind((HOST, port))


def test_ports_already_given_out_are_not_chosen_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("reviewloop.local.places.FIRST_PORT", 20_500)
    monkeypatch.setattr("reviewloop.local.places.LAST_PORT", 20_501)
    monkeypatch.setattr("reviewloop.local.places.is_free", lambda _: True)
    assert {free_port(taken=[20_500]) for _ in range(20)} == {20_501}
