"""When a worker stops because the publisher is broken, and when it goes on."""

import itertools
import random

import pytest

from consumer.breaker import Breaker, Outcomes
from consumer.settings import BreakerSettings
from reviews.errors import StreamError


class Clock:
    """Time that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _breaker(clock: Clock | None = None, **limits: float) -> Breaker:
    settings = {"window_messages": 100, "max_invalid_share": 0.5, "max_invalid_run": 0, **limits}
    return Breaker(BreakerSettings(**settings), clock or Clock())


def _note(breaker: Breaker, invalid: int, valid: int, partition: int = 0) -> None:
    breaker.note({partition: Outcomes(invalid, valid)}, "not_json")


def test_it_stops_when_more_than_the_share_of_a_full_window_is_invalid_and_says_what_to_do() -> None:
    breaker = _breaker()
    _note(breaker, 49, 50)  # the window is not full yet
    with pytest.raises(StreamError, match=r"51% of the latest 103 messages .*not_json.*offsets set"):
        _note(breaker, 4, 0)


def test_the_very_share_does_not_stop_it() -> None:
    breaker = _breaker()
    for _ in range(100):
        _note(breaker, 5, 5)


def test_a_few_invalid_messages_before_the_window_is_full_do_not_stop_it() -> None:
    _note(_breaker(), 99, 0)


def test_what_left_the_window_does_not_count() -> None:
    breaker = _breaker()
    _note(breaker, 50, 50)
    for _ in range(20):
        _note(breaker, 0, 10)
    _note(breaker, 50, 50)  # with the first hundred still in it, and the run of good ones not, this is 50 %
    with pytest.raises(StreamError):
        _note(breaker, 60, 0)


def test_the_order_inside_a_batch_does_not_matter_only_what_it_holds() -> None:
    """A batch of good and bad messages is no run, wherever its bad ones stand."""
    breaker = _breaker(max_invalid_share=1, max_invalid_run=10)
    for _ in range(100):
        _note(breaker, 9, 1)
    with pytest.raises(StreamError, match="latest 10 messages without an exception"):
        _note(breaker, 10, 0)


def test_one_broken_partition_beside_sound_ones_stops_it_in_no_order_of_reading() -> None:
    """A backlog comes partition by partition: 1,000 bad ones in a row are a sixth of what is read."""
    blocks = [(0, Outcomes(100, 0))] * 10 + [(number, Outcomes(0, 100)) for number in range(1, 6)] * 10
    for seed in range(20):
        order = blocks.copy()
        random.Random(seed).shuffle(order)
        first_sound = next(index for index, block in enumerate(order) if block[0])
        breaker = _breaker(max_invalid_run=500)
        for partition, group in itertools.chain([order[first_sound]], order):
            breaker.note({partition: group}, "not_json")


def test_a_topic_that_is_broken_in_every_partition_stops_it_after_the_run() -> None:
    breaker = _breaker(max_invalid_share=1, max_invalid_run=60)
    _note(breaker, 0, 10, partition=0)
    _note(breaker, 0, 10, partition=1)
    _note(breaker, 50, 0, partition=0)
    with pytest.raises(StreamError, match="latest 60 messages"):
        _note(breaker, 10, 0, partition=1)


def test_a_partition_that_fell_silent_does_not_hide_that_the_others_are_broken() -> None:
    clock = Clock()
    breaker = _breaker(clock, window_seconds=60)
    for partition in range(1, 10):
        _note(breaker, 0, 100, partition)
    _note(breaker, 100, 0)
    clock.now = 61
    with pytest.raises(StreamError, match="100% of the latest"):
        _note(breaker, 10, 0)


def test_a_share_of_one_and_a_run_of_zero_switch_it_off() -> None:
    breaker = _breaker(max_invalid_share=1, max_invalid_run=0)
    for _ in range(100):
        _note(breaker, 1000, 0)


def test_batches_without_messages_change_nothing() -> None:
    breaker = _breaker(max_invalid_share=1, max_invalid_run=10)
    _note(breaker, 9, 0)
    breaker.note({}, None)
    breaker.note({0: Outcomes(0, 0), 1: Outcomes(0, 0)}, None)
    with pytest.raises(StreamError):
        _note(breaker, 1, 0)


def test_what_is_said_when_it_stops_names_the_topic_and_the_command_that_tries_it() -> None:
    breaker = Breaker(BreakerSettings(window_messages=10))
    with pytest.raises(StreamError, match=r"'reviewloop sources try shop\.reviews' shows how its records"):
        breaker.note({0: Outcomes(10, 0)}, "missing_id", "shop.reviews")
