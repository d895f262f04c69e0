"""Kafka's wire format, as far as finding out what is wrong takes it."""

import socket
import struct

METADATA, SASL_HANDSHAKE, API_VERSIONS, SASL_AUTHENTICATE = 3, 17, 18, 36


def ask(connection: socket.socket, api_key: int, api_version: int, body: bytes) -> bytes:
    """The answer to one request, without its header.

    Raises:
        OSError: The broker hung up, or does not answer in time.
    """
    request = struct.pack(">hhih", api_key, api_version, 1, -1) + body  # 1: correlation, -1: no client id
    connection.sendall(struct.pack(">i", len(request)) + request)
    (size,) = struct.unpack(">i", _read(connection, 4))
    return _read(connection, size)[4:]


def error_code(answer: bytes) -> int:
    """The error at the beginning of an answer; 0 for none."""
    return int(struct.unpack_from(">h", answer)[0])


def text(value: str) -> bytes:
    """A short text with its length before it."""
    raw = value.encode()
    return struct.pack(">h", len(raw)) + raw


def data(value: bytes) -> bytes:
    """Bytes with their length before them."""
    return struct.pack(">i", len(value)) + value


def token_of(answer: bytes) -> bytes:
    """The token in the answer to an authentication: behind the error's code and message."""
    (message_size,) = struct.unpack_from(">h", answer, 2)
    return answer[2 + 2 + max(0, message_size) + 4 :]


def _read(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        more = connection.recv(size - len(found))
        if not more:
            raise ConnectionResetError("The broker hung up.")
        found += more
    return found
