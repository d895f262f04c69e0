"""Results that are computed at most once in a while."""

import threading

import pytest

from console.remembered import Remembered


class Clock:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_result_is_used_again_until_it_is_too_old():
    clock, made = Clock(), []
    results = Remembered[int](30, clock)

    def compute() -> int:
        made.append(clock.now)
        return len(made)

    assert [results.get("a", compute), results.get("a", compute), results.get("b", compute)] == [1, 1, 2]
    clock.now = 31
    assert results.get("a", compute) == 3


def test_an_error_is_not_remembered():
    results = Remembered[int](30, Clock())
    with pytest.raises(ZeroDivisionError):
        results.get("a", lambda: 1 // 0)
    assert results.get("a", lambda: 5) == 5


def test_of_many_threads_one_computes():
    results, made = Remembered[int](30), []

    def compute() -> int:
        made.append(1)
        return 1

    threads = [threading.Thread(target=results.get, args=("a", compute)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_the_number_of_results_is_bounded():
    results = Remembered[int](30)
    for number in range(1_000):
        results.get(number, lambda: 0)
    assert len(results._results) <= 64
