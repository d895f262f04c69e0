"""What may stand where a broker should: each answers a connection in one way, on this machine's loopback."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

Answer = Callable[[socket.socket], None]


@contextlib.contextmanager
def peer(answer: Answer) -> Iterator[str]:
    """HOST:PORT of a server that treats every connection so, and then closes it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_serve, args=(server, answer), daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def resets(connection: socket.socket) -> None:
    """As a host that is going down."""
    connection.recv(65_536)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def hangs_up(connection: socket.socket) -> None:
    """As a load balancer whose brokers are away."""
    connection.recv(65_536)


def is_silent(connection: socket.socket) -> None:
    """As a host that is frozen: the connection stands, and ends when the other side is tired of it."""
    while connection.recv(65_536):
        pass


def speaks_http(connection: socket.socket) -> None:
    """As another service on a port that was mistaken for Kafka's."""
    connection.recv(65_536)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def speaks_kafka_plainly(connection: socket.socket) -> None:
    """As a broker without TLS: it answers a request, and hangs up on what is none."""
    request = connection.recv(65_536)
    if len(request) < 12 or struct.unpack(">i", request[:4])[0] != len(request) - 4:
        return
    answer = request[8:12] + struct.pack(">h", 0) + struct.pack(">i", 0)
    connection.sendall(struct.pack(">i", len(answer)) + answer)


def _serve(server: socket.socket, answer: Answer) -> None:
    threads = []
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            break  # it was closed
        threads.append(threading.Thread(target=_treat, args=(connection, answer), daemon=True))
        threads[-1].start()
    for thread in threads:
        thread.join()


def _treat(connection: socket.socket, answer: Answer) -> None:
    with connection, contextlib.suppress(OSError):
        answer(connection)
