"""Reading labels beside the reviews: neither its errors nor its faults end the scoring."""

import threading
from collections.abc import Callable

import pytest

from consumer.label_reader import LabelReader
from consumer.worker import Totals
from reviews.errors import StreamError, Unavailable, Unread, WrongUse


def _reader(
    read: Callable[[], Totals | None], pin: Callable[[], int] = lambda: 0, **options: bool
) -> tuple[LabelReader, threading.Event]:
    stopping = threading.Event()
    reader = LabelReader(read, pin, topic="labels", stopping=stopping, retry_max_seconds=0.01, **options)
    return reader, stopping


def test_errors_are_retried_until_reading_succeeds():
    troubles: list[Exception] = [Unavailable("away"), StreamError("beyond the end"), Unavailable("away")]

    def read() -> Totals:
        if troubles:
            raise troubles.pop()
        return Totals(accepted=7)

    reader, stopping = _reader(read)
    reader.start()
    reader.wait()
    assert reader.finish(30)
    assert reader.totals.accepted == 7
    assert not stopping.is_set()


def test_an_error_that_waiting_does_not_mend_is_raised_after_the_scoring_has_ended():
    goes_on = threading.Event()

    def read() -> Totals:
        goes_on.wait(30)
        raise Unread("another member holds them")

    reader, _ = _reader(read)
    reader.start()
    threading.Timer(0.05, goes_on.set).start()
    with pytest.raises(Unread):
        reader.finish(30)


def test_a_reader_that_is_alone_ends_with_the_first_error():
    def read() -> Totals:
        raise StreamError("beyond the end")

    reader, stopping = _reader(read, is_alone=True)
    reader.start()
    reader.wait()
    with pytest.raises(StreamError):
        reader.finish(30)
    assert stopping.is_set()


def test_a_fault_of_the_program_is_tried_again_and_does_not_end_the_scoring():
    faults: list[Exception] = [KeyError("a bug"), MemoryError(), KeyError("a bug")]
    faults_of_pinning: list[Exception] = [KeyError("a bug")]

    def read() -> Totals:
        if faults:
            raise faults.pop()
        return Totals(accepted=7)

    def pin() -> int:
        if faults_of_pinning:
            raise faults_of_pinning.pop()
        return 0

    reader, stopping = _reader(read, pin)
    reader.start()
    reader.wait()
    assert not stopping.is_set(), "a fault on the labels topic told the scoring to stop"
    assert reader.finish(30)
    assert reader.totals.accepted == 7
    assert not faults_of_pinning


def test_a_fault_that_stays_is_raised_once_the_scoring_has_come_to_its_end():
    failed = threading.Semaphore(0)

    def read() -> Totals:
        failed.release()
        raise KeyError("a bug")

    reader, stopping = _reader(read)
    reader.start()
    assert failed.acquire(timeout=30)
    assert failed.acquire(timeout=30), "it was not tried again"
    assert not stopping.is_set()
    with pytest.raises(KeyError):
        reader.finish(30)


def test_a_reader_that_is_alone_ends_with_the_first_fault_of_the_program():
    def pin() -> int:
        raise KeyError("a bug")

    idle = threading.Event()

    def read() -> Totals:
        idle.wait(30)
        return Totals()

    reader, stopping = _reader(read, pin, is_alone=True)
    reader.start()
    assert stopping.wait(30)
    idle.set()
    with pytest.raises(KeyError):
        reader.finish(30)


def test_waiting_labels_are_pinned_while_nothing_is_read_and_once_more_at_the_end():
    pinned = threading.Semaphore(0)
    idle = threading.Event()

    def pin() -> int:
        pinned.release()
        return 1

    def read() -> Totals:
        idle.wait(30)
        return Totals()

    reader, _ = _reader(read, pin)
    reader.start()
    assert pinned.acquire(timeout=30)
    idle.set()
    assert reader.finish(30)
    assert pinned.acquire(timeout=30)


def test_pinning_goes_on_after_the_database_was_away():
    outcomes: list[Exception | int] = [2, Unavailable("away")]
    called = threading.Semaphore(0)
    idle = threading.Event()

    def pin() -> int:
        called.release()
        outcome = outcomes.pop() if outcomes else 0
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def read() -> Totals:
        idle.wait(30)
        return Totals()

    reader, stopping = _reader(read, pin)
    reader.start()
    assert called.acquire(timeout=30)
    assert called.acquire(timeout=30)
    idle.set()
    assert reader.finish(30)
    assert not stopping.is_set()


def test_a_topic_that_does_not_exist_ends_a_lone_reader_that_ends_when_idle():
    reader, _ = _reader(lambda: None, is_alone=True, ends_when_idle=True)
    reader.start()
    with pytest.raises(WrongUse, match=r"'labels' does not exist.*topics create"):
        reader.finish(30)


def test_beside_the_scoring_a_topic_that_does_not_exist_is_no_error():
    reader, stopping = _reader(lambda: None, ends_when_idle=True)
    reader.start()
    assert reader.finish(30)
    assert reader.totals == Totals()
    assert not stopping.is_set()
