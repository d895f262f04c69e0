"""Python's search for cycles, while a worker runs."""

import gc

import pytest

from reviewloop.wiring.workers import rare_collections


def test_cycles_are_looked_for_more_rarely_within_and_as_before_afterwards() -> None:
    before = gc.get_threshold()

    with rare_collections():
        within = gc.get_threshold()

    assert within[0] > before[0]
    assert within[1:] == before[1:]
    assert gc.get_threshold() == before


def test_an_error_restores_the_thresholds_too() -> None:
    before = gc.get_threshold()

    with pytest.raises(ValueError, match="broken"), rare_collections():
        raise ValueError("broken")

    assert gc.get_threshold() == before
