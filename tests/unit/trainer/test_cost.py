"""The price of an answer: what it takes, and how the draw depends on it."""

import numpy as np
import pytest

from reviews.errors import WrongUse
from trainer.selection.choice import choose
from trainer.selection.cost import cost_weights, expected_seconds, measured_cost
from trainer.selection.pool import Pool
from trainer.settings import SelectionSettings

SETTINGS = SelectionSettings(strategy="random", skip_near_duplicates=False, cost_exponent=1.0)


def pool_of(characters: np.ndarray) -> Pool:
    rows = len(characters)
    return Pool(
        np.arange(rows, dtype=np.int64),
        np.full((rows, 2), 0.5, np.float32),
        np.zeros(rows, np.int64),
        characters=characters,
    )


def test_an_answer_takes_its_own_seconds_and_those_of_reading():
    characters = np.array([0, 23, 2300])
    assert expected_seconds(characters, SETTINGS).tolist() == [3.0, 4.0, 103.0]
    assert expected_seconds(characters, SETTINGS).dtype == np.float64


def test_a_text_that_takes_twice_as_long_is_drawn_half_as_often():
    short, long = 0, round(SETTINGS.answer_seconds * SETTINGS.characters_a_second)
    pool = pool_of(np.array([short] * 5_000 + [long] * 5_000))
    drawn = [choice.record < 5_000 for choice in choose(pool, 900, SETTINGS, seed=1)]
    assert 0.62 < np.mean(drawn) < 0.71  # 2/3 of a draw that takes few of the pool
    assert cost_weights(np.array([short, long]), SETTINGS).tolist() == [1.0, 0.5]


def test_the_cost_of_answers_is_measured_and_a_break_of_ten_minutes_does_not_move_it():
    characters = np.arange(100, 2_100, 40)
    seconds = 5.0 + characters / 20.0
    seconds[::10] = 600.0
    found = measured_cost(seconds, characters)
    assert found.answers == 50
    assert found.answer_seconds == pytest.approx(5.0, abs=3)
    assert found.characters_a_second == pytest.approx(20.0, rel=0.1)
    assert measured_cost(np.full(50, 4.0), characters) == (4.0, float("inf"), 50)
    assert measured_cost(seconds[:10], characters[:10]) is None, "too few"
    assert measured_cost(seconds, np.full(50, 80)) is None, "all of one length"


def test_length_does_not_matter_by_default():
    free = SETTINGS.model_copy(update={"cost_exponent": 0.0})
    lengths = np.arange(200) * 50
    with_lengths, without = pool_of(lengths), pool_of(lengths * 0)
    assert choose(with_lengths, 20, free, seed=3) == choose(without, 20, free, seed=3)


def test_a_pool_without_lengths_is_refused_where_length_matters():
    pool = Pool(np.arange(3), np.full((3, 2), 0.5, np.float32), np.zeros(3, np.int64))
    with pytest.raises(WrongUse, match="lengths"):
        choose(pool, 1, SETTINGS, seed=0)
