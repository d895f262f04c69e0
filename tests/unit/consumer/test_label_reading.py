"""Reading labels beside the reviews: neither its trouble nor its faults end the scoring."""

import threading
from collections.abc import Callable

import pytest

from consumer.label_reading import LabelReading
from consumer.worker import Totals
from reviews.errors import StreamError, Unavailable, Unread


def _reading(
    read: Callable[[], Totals], settle: Callable[[], int] = lambda: 0, retry_max_seconds: float | None = 0.01
) -> tuple[LabelReading, threading.Event]:
    stopping = threading.Event()
    return LabelReading(read, settle, stopping=stopping, retry_max_seconds=retry_max_seconds), stopping


def test_trouble_is_tried_again_until_it_is_over():
    troubles: list[Exception] = [Unavailable("away"), StreamError("beyond the end"), Unavailable("away")]

    def read() -> Totals:
        if troubles:
            raise troubles.pop()
        return Totals(reviews=7)

    reading, stopping = _reading(read)
    reading.start()
    reading.wait()
    assert reading.finish(30)
    assert reading.totals.reviews == 7
    assert not stopping.is_set()


def test_what_waiting_does_not_mend_is_raised_once_nothing_else_goes_on():
    goes_on = threading.Event()

    def read() -> Totals:
        goes_on.wait(30)
        raise Unread("another member holds them")

    reading, _ = _reading(read)
    reading.start()
    threading.Timer(0.05, goes_on.set).start()
    with pytest.raises(Unread):
        reading.finish(30)


def test_whoever_reads_labels_alone_hears_of_the_trouble_at_once():
    def read() -> Totals:
        raise StreamError("beyond the end")

    reading, stopping = _reading(read, retry_max_seconds=None)
    reading.start()
    reading.wait()
    with pytest.raises(StreamError):
        reading.finish(30)
    assert stopping.is_set()


def test_a_fault_of_the_program_is_tried_again_and_does_not_end_the_scoring():
    faults: list[Exception] = [KeyError("a bug"), MemoryError(), KeyError("a bug")]
    settling: list[Exception] = [KeyError("a bug")]

    def read() -> Totals:
        if faults:
            raise faults.pop()
        return Totals(reviews=7)

    def settle() -> int:
        if settling:
            raise settling.pop()
        return 0

    reading, stopping = _reading(read, settle)
    reading.start()
    reading.wait()
    assert not stopping.is_set(), "a fault on the labels topic told the scoring to stop"
    assert reading.finish(30)
    assert reading.totals.reviews == 7
    assert not settling


def test_a_fault_that_stays_is_raised_once_the_scoring_has_come_to_its_end():
    failed = threading.Semaphore(0)

    def read() -> Totals:
        failed.release()
        raise KeyError("a bug")

    reading, stopping = _reading(read)
    reading.start()
    assert failed.acquire(timeout=30)
    assert failed.acquire(timeout=30), "it was not tried again"
    assert not stopping.is_set()
    with pytest.raises(KeyError):
        reading.finish(30)


def test_whoever_reads_labels_alone_hears_of_a_fault_at_once():
    def settle() -> int:
        raise KeyError("a bug")

    idle = threading.Event()

    def read() -> Totals:
        idle.wait(30)
        return Totals()

    reading, stopping = _reading(read, settle, retry_max_seconds=None)
    reading.start()
    assert stopping.wait(30)
    idle.set()
    with pytest.raises(KeyError):
        reading.finish(30)


def test_waiting_labels_are_settled_while_nothing_is_read_and_once_more_at_the_end():
    settled = threading.Semaphore(0)
    idle = threading.Event()

    def settle() -> int:
        settled.release()
        return 1

    def read() -> Totals:
        idle.wait(30)
        return Totals()

    reading, _ = _reading(read, settle)
    reading.start()
    assert settled.acquire(timeout=30)
    idle.set()
    assert reading.finish(30)
    assert settled.acquire(timeout=30)


def test_settling_goes_on_after_the_database_was_away():
    outcomes: list[Exception | int] = [2, Unavailable("away")]
    called = threading.Semaphore(0)
    idle = threading.Event()

    def settle() -> int:
        called.release()
        outcome = outcomes.pop() if outcomes else 0
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def read() -> Totals:
        idle.wait(30)
        return Totals()

    reading, stopping = _reading(read, settle)
    reading.start()
    assert called.acquire(timeout=30)
    assert called.acquire(timeout=30)
    idle.set()
    assert reading.finish(30)
    assert not stopping.is_set()
