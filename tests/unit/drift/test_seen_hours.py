"""Until a reference has seen a week, hours that it has not seen are not compared, and are no drift."""

import dataclasses
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from drift.evaluation import evaluate
from drift.online import Detector
from drift.rows import ReviewRows
from drift.settings import DriftSettings, WatchSettings
from drift.strata import SeenHours, hour_of_week, longest_season
from drift.summary import explain, summarise
from tests.unit.drift.made_up import clothes, clothing_review, film_review, rows_of

DAY = 86_400
MINUTES = 5  # between two reviews: 288 a day
SATURDAY = 576  # the first review of 3 January 1970
SETTINGS = DriftSettings(reference_reviews=400, least_reviews=100)


def _reviews(count: int, first: int, **options: Any) -> ReviewRows:
    return clothes(count, first=first, seconds=MINUTES * 60, **options)


def _long(rows: ReviewRows) -> ReviewRows:
    """People have time: they write three times as much."""
    return dataclasses.replace(rows, texts=[text * 3 for text in rows.texts])


WORKING_DAYS = _reviews(500, 0)  # Thursday, and Friday until the evening


def test_seasons_are_a_day_a_week_and_what_is_asked_for_once_they_have_passed():
    passed = [
        timedelta(hours=23),
        timedelta(days=1),
        timedelta(days=6.9),
        timedelta(days=7),
        timedelta(days=99),
    ]
    assert [longest_season(time, 7).days for time in passed] == [0, 1, 1, 7, 7]
    assert [longest_season(time, 28).days for time in passed] == [0, 1, 1, 7, 28]
    assert [longest_season(time, 0).days for time in passed] == [0] * 5
    assert longest_season(timedelta(days=-3), 7) == timedelta(0)


def test_hours_at_the_weekend_are_others_than_on_working_days():
    found = hour_of_week(np.array([0, DAY - 1, 2 * DAY, 3 * DAY + 3600, 4 * DAY], np.int64))
    assert found.tolist() == [0, 23, 24, 25, 0]


def test_an_hour_is_seen_where_enough_reviews_lie_within_two_hours_of_it():
    morning = SeenHours.of(_reviews(36, 8 * 12))  # 8 to 11 o'clock
    assert np.flatnonzero(morning.hours).tolist() == [7, 8, 9, 10, 11]
    assert not morning.saw_week
    night = SeenHours.of(_reviews(36, 22 * 12))  # 22 to 1 o'clock
    assert {21, 22, 23, 0, 1} == set(np.flatnonzero(night.hours).tolist())
    assert not SeenHours.of(_reviews(0, 0)).cover(WORKING_DAYS).any()


@pytest.mark.parametrize("late", ["published", "scored"])
def test_once_a_week_has_passed_every_hour_may_be_compared(late):
    week = np.arange(500, dtype=np.int64) * 7 * DAY // 500
    times = {"published": week // DAY * DAY, "scored": week * 1_000_000}
    assert SeenHours.of(dataclasses.replace(WORKING_DAYS, **{late: times[late]})).cover(WORKING_DAYS).all()
    one_is_old = WORKING_DAYS.published.copy()
    one_is_old[0] = -1000 * DAY
    assert not SeenHours.of(dataclasses.replace(WORKING_DAYS, published=one_is_old)).saw_week


def test_a_weekend_is_no_drift_where_the_reference_has_seen_working_days_only():
    weekend = _long(_reviews(300, SATURDAY))
    found = evaluate(WORKING_DAYS, weekend, SETTINGS)
    assert (found.verdict, len(found.compared), found.saw_week) == ("unknown", 0, False)
    week = dataclasses.replace(WORKING_DAYS, scored=np.arange(500, dtype=np.int64) * 7 * DAY * 2000)
    assert evaluate(week, weekend, SETTINGS).verdict == "drift", (
        "weekends were without reviews: these are new"
    )


def test_hours_that_were_seen_are_compared_and_rows_are_named_by_their_place_in_the_whole_window():
    """Films come at the weekend, of which nothing is known, and on Monday, where they are drift."""
    monday = 4 * 288
    messages = [film_review(number) for number in range(monday - 100, monday)]
    messages += [clothing_review(number) for number in range(150)]
    messages += [film_review(number) for number in range(monday, monday + 150)]
    window = rows_of(messages, first=monday - 100, seconds=MINUTES * 60)
    found = evaluate(WORKING_DAYS, window, SETTINGS)
    assert found.verdict == "drift"
    assert found.compared.tolist() == list(range(100, 400))
    assert found.since_row is not None
    assert abs(found.since_row - 250) < 20
    assert found.attribution is not None
    assert found.attribution.new_rows.min() >= 100
    parts = explain(found, window)
    sources = dict(zip(window.records.tolist(), window.sources, strict=True))
    assert {sources[record] for record in parts["examples"]} == {"cinema"}
    measures = summarise(found, WORKING_DAYS, window)
    assert measures["seasons"] == {"saw_week": False, "compared": 300}
    assert measures["looked_at"]["window"] == 400


def test_the_watch_is_silent_about_hours_that_its_reference_has_not_seen():
    settings = WatchSettings(calibration_streams=5)
    detector = Detector(WORKING_DAYS, settings)
    friday = _reviews(SATURDAY - 500, 500, seed=1)
    assert detector.update(friday) == []
    assert detector.update(_long(_reviews(2 * 288, SATURDAY))) == []
    monday = [film_review(number) for number in range(288)]
    alarms = detector.update(rows_of(monday, first=4 * 288, seconds=MINUTES * 60))
    assert alarms[0].kind == "texts"
    assert alarms[0].after_reviews - detector.seen <= 100 - 288
