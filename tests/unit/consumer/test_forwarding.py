"""The forwarder waits for nobody, gives up on nothing, and ends when it is told to."""

import threading
import time
from collections.abc import Callable

from consumer.forwarding import Forwarder
from reviews.errors import Unavailable


class Outbox:
    """Letters by number; ``publish`` is called as the database's outbox calls it."""

    def __init__(self, letters: int) -> None:
        self.letters = letters

    def forward(self, publish: Callable[[list[int]], None]) -> int:
        if self.letters == 0:
            return 0
        publish([self.letters])
        self.letters -= 1
        return 1


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_it_tries_again_after_every_kind_of_error_until_all_is_told() -> None:
    failures: list[Exception] = [Unavailable("gone"), RuntimeError("a bug"), Unavailable("gone again")]
    told: list[int] = []

    def publish(letters: list[int]) -> None:
        if failures:
            raise failures.pop()
        told.extend(letters)

    outbox = Outbox(3)
    forwarder = Forwarder(outbox, publish, poll_seconds=0.01, retry_max_seconds=0.01)
    forwarder.start()
    _wait_for(lambda: outbox.letters == 0)
    assert forwarder.stop(timeout_seconds=60)
    assert told == [3, 2, 1]


def test_what_was_stored_last_is_told_before_it_ends() -> None:
    outbox = Outbox(0)
    told: list[int] = []
    forwarder = Forwarder(outbox, told.extend, poll_seconds=60, retry_max_seconds=60)
    forwarder.start()
    outbox.letters = 2
    assert forwarder.stop(timeout_seconds=60)
    assert told == [2, 1]


def test_brokers_that_refuse_do_not_keep_it_from_ending() -> None:
    def refuse(_: list[int]) -> None:
        raise Unavailable("gone")

    outbox = Outbox(1)
    forwarder = Forwarder(outbox, refuse, poll_seconds=60, retry_max_seconds=60)
    forwarder.start()
    assert forwarder.stop(timeout_seconds=60)
    assert outbox.letters == 1  # still marked


def test_a_publish_that_hangs_is_not_waited_for_longer_than_asked() -> None:
    hanging, released = threading.Event(), threading.Event()

    def hang(_: list[int]) -> None:
        hanging.set()
        released.wait(10)

    forwarder = Forwarder(Outbox(1), hang, poll_seconds=0.01, retry_max_seconds=0.01)
    forwarder.start()
    assert hanging.wait(5)
    assert not forwarder.stop(timeout_seconds=0.05)
    released.set()
