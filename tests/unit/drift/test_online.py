"""The online detector: finds breaks soon, says what broke, and is quiet otherwise."""

import dataclasses

import numpy as np
import pytest

from drift.online import Detector, lasting
from drift.online_scores import STEP_REVIEWS, WIDTHS, Binning, scores
from drift.settings import WatchSettings
from tests.unit.drift.made_up import clothes, clothing_review, film_review, films, rows_of

SETTINGS = WatchSettings(calibration_streams=10)
REFERENCE = clothes(1000)
BINNING = Binning(REFERENCE)


def _detector(**options) -> Detector:
    return Detector(REFERENCE, SETTINGS.model_copy(update=options), binning=BINNING)


def test_films_after_clothes_are_found_within_100_reviews_as_a_change_of_texts():
    detector = _detector()
    assert detector.update(clothes(700, first=1000, seed=1)) == []
    alarm = detector.update(films(300, first=1700))[0]
    assert 700 < alarm.after_reviews <= 800
    assert alarm.kind == "texts"
    assert alarm.strengths[alarm.feature] >= 1


def test_more_negative_reviews_with_the_same_texts_are_a_change_of_classes():
    detector = _detector()
    detector.update(clothes(300, first=1000, seed=1))
    alarm = detector.update(clothes(600, first=1300, positive=0.3, seed=2))[0]
    assert alarm.kind == "classes"
    assert alarm.feature == "classes"


def test_a_stream_like_its_reference_raises_no_alarm():
    assert [_detector().update(clothes(4000, first=first, seed=first)) for first in (10_000, 20_000)] == [
        [],
        [],
    ]


def test_batches_change_nothing():
    stream = [clothes(700, first=1000, seed=1), films(100, first=1700)]
    uncut = _detector()
    whole = [alarm for rows in stream for alarm in uncut.update(rows)]
    cut = _detector()
    alarms = []
    for rows in stream:
        places = np.arange(len(rows))
        for size in np.array_split(places, [1, 8, 17, 30, 31, 64]):
            alarms += cut.update(rows.take(size))
    assert len(whole) == len(alarms) == 1
    assert alarms[0].after_reviews == whole[0].after_reviews
    assert alarms[0].strengths == pytest.approx(whole[0].strengths)


def test_an_alarm_is_followed_by_a_cool_down_and_the_next_comes_after_it():
    alarms = _detector(cool_down_reviews=200).update(films(900, first=1000))
    places = [alarm.after_reviews for alarm in alarms]
    assert len(places) > 2
    assert min(np.diff(places)) >= 200
    silent = _detector(cool_down_reviews=200)
    silent.be_silent()
    assert silent.update(films(900, first=1000))[0].after_reviews == 200


def test_one_strange_batch_is_forgotten_where_persistence_asks_for_more():
    def alarms(persistence: int) -> int:
        detector = _detector(persistence_reviews=persistence)
        rows = [clothes(500, first=1000, seed=1), films(20, first=1500), clothes(300, first=1520, seed=3)]
        return sum(len(detector.update(part)) for part in rows)

    assert alarms(600) == 0
    assert alarms(10) == 1


def test_a_feature_that_never_varied_does_not_turn_the_first_exception_into_an_alarm():
    stream = clothes(500, first=1000, seed=1)
    texts = list(stream.texts)
    texts[250] += " Zyxwvut."
    assert _detector().update(dataclasses.replace(stream, texts=texts)) == []


def test_no_window_is_wider_than_half_its_reference():
    small = Detector(clothes(300), SETTINGS)
    assert small._widths == (30, 120)
    assert Detector(clothes(40), SETTINGS)._widths == WIDTHS[:1]


def test_scores_have_a_place_for_each_feature_width_and_step_and_0_before_a_window_is_full():
    stream = BINNING.of(clothes(200, first=1000))
    expectation = BINNING.expectation(np.arange(1000))
    steps = np.arange(STEP_REVIEWS, 201, STEP_REVIEWS)
    found = scores(stream, expectation, (30, 120), steps)
    assert found.shape == (4, 2, 20)
    assert (found[:, 1, :11] == 0).all()
    assert (found[:, 1, 11:] != 0).all()


def test_a_value_lasts_as_long_as_the_least_in_a_row():
    assert lasting(np.array([[1.0, 5, 4, 6, 0, 7]]), 2).tolist() == [[1, 4, 4, 0, 0]]


def test_the_stated_run_length_is_about_the_measured_one():
    """100,000 reviews at one false alarm in 10,000: about ten; far more would be a lie, and so would none."""
    settings = SETTINGS.model_copy(update={"average_run_length": 10_000, "cool_down_reviews": 1_000})
    detector = Detector(REFERENCE, settings, binning=BINNING)
    stream = (clothes(20_000, first=first, seed=first) for first in range(5_000, 105_000, 20_000))
    assert 2 <= sum(len(detector.update(rows)) for rows in stream) <= 20


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_slow_change_is_found_before_it_is_half_done(seed):
    random = np.random.default_rng(seed)
    is_film = random.random(2000) < np.linspace(0.05, 0.5, 2000)
    messages = [
        film_review(n) if film else clothing_review(n) for n, film in enumerate(is_film, start=50_000)
    ]
    alarms = _detector().update(rows_of(messages, seed=seed, first=1000))
    assert alarms[0].after_reviews < 1000
