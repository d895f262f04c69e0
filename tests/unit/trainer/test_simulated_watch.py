"""The drift watch beside the nights: what it holds against what, and what its alarms are worth."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from drift.settings import WatchSettings
from tests.unit.drift.made_up import CLASSES, clothing_review, film_review
from tests.unit.trainer.made_up_models import ANY_NUMBER, MadeUp
from trainer.nightly.cross_checks import HeldOutByFolds
from trainer.settings import GateSettings, SelectionSettings, TrainerSettings
from trainer.simulation.experiment import Size, uncalibrated
from trainer.simulation.loop import Fits, Loop, nights
from trainer.simulation.stream import Annotator, replay
from trainer.simulation.summary import Alarms, alarms
from trainer.simulation.watch import Detectors, DriftFollower

SETTINGS = WatchSettings(calibration_streams=5)
CHANGE = 700  # clothes before, films from there on
TEXTS = tuple(
    (clothing_review if number < CHANGE else film_review)(number)["text"] for number in range(CHANGE + 300)
)
ALL = np.arange(len(TEXTS))


def said_of(rows, share=0.8):
    """Probabilities that say nothing of the texts."""
    random = np.random.default_rng(0)
    positive = np.where(random.random(len(TEXTS)) < share, 0.9, 0.2) + random.uniform(-0.1, 0.1, len(TEXTS))
    return np.stack([1 - positive, positive], axis=1)[rows]


@pytest.fixture
def watch():
    return DriftFollower(TEXTS, CLASSES, 200, Detectors(SETTINGS))


def test_a_change_raises_an_alarm_whose_place_is_that_of_its_last_review(watch):
    assert watch.see(ALL[:CHANGE], ALL[:CHANGE], said_of(ALL[:CHANGE])) == {"watched": 500, "alarms": []}
    late = ALL[CHANGE:]
    found = watch.see(late, late, said_of(late))
    (alarm,) = found["alarms"]
    assert found["watched"] == len(late)
    assert CHANGE < alarm["after"] < CHANGE + 100
    assert (alarm["reference_after"], alarm["kind"]) == (0, "texts")


def test_how_reviews_come_in_nights_changes_no_alarm(watch):
    other = DriftFollower(TEXTS, CLASSES, 200, Detectors(SETTINGS))
    whole = watch.see(ALL, ALL, said_of(ALL))
    parts = [other.see(part, part, said_of(part)) for part in np.split(ALL, [90, 250, 710, 733])]
    assert [alarm for part in parts for alarm in part["alarms"]] == whole["alarms"] != []
    assert [part["watched"] for part in parts] == [0, 50, 460, 23, 267]


def test_places_count_reviews_that_the_watch_never_saw(watch):
    assert watch.see(ALL + 40, ALL, said_of(ALL))["alarms"][0]["after"] > CHANGE + 40


def test_a_promotion_begins_a_new_reference_with_the_next_reviews(watch):
    watch.see(ALL[:CHANGE], ALL[:CHANGE], said_of(ALL[:CHANGE]))
    watch.begin()
    late = ALL[CHANGE:]
    assert watch.see(late, late, said_of(late)) == {"watched": 100, "alarms": []}
    again = np.arange(len(TEXTS), len(TEXTS) + 100)
    found = watch.see(again, ALL[:100], said_of(ALL[:100]))
    assert found["alarms"][0]["reference_after"] == CHANGE


def test_the_threshold_of_a_reference_is_found_once_and_of_other_answers_anew(monkeypatch):
    import drift.online

    found, find = [], drift.online.find_threshold
    monkeypatch.setattr(
        drift.online, "find_threshold", lambda *args, **options: found.append(1) or find(*args, **options)
    )
    detectors = Detectors(SETTINGS)
    raised = [
        DriftFollower(TEXTS, CLASSES, 200, detectors).see(ALL, ALL, said_of(ALL, share))
        for share in (0.8, 0.8, 0.7)
    ]
    assert len(found) == 2
    assert raised[0] == raised[1]


class Silent:
    """A detector that keeps its reference and raises nothing."""

    def __init__(self, reference):
        self.reference, self.seen = reference, 0

    def update(self, rows):
        self.seen += len(rows)
        return []


@pytest.fixture
def loop():
    """Three nights of 60, 20 and 20 rows, a cold start with 10 labels, the truth as the fitted model."""
    truth = (np.arange(300) % 3 == 0).astype(np.int64)
    size = Size(nights=3, labels_a_night=5, backlog_rows=60, arriving_rows=40, held_back_rows=180).model_copy(
        update={"reference_rows": 20}
    )  # fewer than may be asked for
    files = np.repeat([0, 1], (210, 90))
    texts = tuple(f"row {number}" for number in range(300))

    def fit(snapshot, active, seed):
        sure = 0.6 + len(snapshot.rows) / 1000  # with more labels it is surer
        said = lambda asked: np.where(truth[asked, None] == np.arange(2), sure, 1 - sure)  # noqa: E731 - short
        return Fits(MadeUp(snapshot.names, said), "made-up", HeldOutByFolds((), np.empty((0, 2))))

    return Loop(
        replay=replay(range(len(texts)), truth, files, size, Annotator(2), seed=3),
        labels=("no", "yes"),
        start=None,
        start_labels=10,
        fit=fit,
        selection=SelectionSettings(strategy="random"),
        is_zero_shot=False,
        settings=TrainerSettings(
            nightly=ANY_NUMBER, gate=uncalibrated(GateSettings(min_rows=1, min_class_rows=1, alpha=1e-9))
        ),
        texts=texts,
        embeddings=None,
        seed=3,
        detect=lambda _: pytest.fail("no reference is whole"),
        clock=lambda: 0.0,
    )


def test_the_backlog_is_the_first_reference_without_what_a_cold_start_was_fitted_on(loop):
    made = []
    lines = list(nights(replace(loop, detect=lambda reference: made.append(Silent(reference)) or made[-1])))
    (detector,) = made
    assert detector.reference.records.tolist() == loop.replay.pool[10:30].tolist()
    np.testing.assert_allclose(detector.reference.confidence, 0.61, atol=1e-6)
    assert [line["drift"]["watched"] for line in lines[1:]] == [30, 20, 20]
    assert detector.seen == 70


def test_the_lines_say_where_another_file_began(loop):
    size = loop.replay.size.model_copy(update={"reference_rows": 500})
    lines = list(nights(replace(loop, replay=replace(loop.replay, size=size))))
    (change,) = loop.replay.changes
    assert "drift" not in lines[0]
    assert [line["drift"]["arrived"] for line in lines[1:]] == [60, 80, 100]
    night = 1 + int(np.searchsorted([60, 80, 100], change, side="right"))
    assert [line["drift"]["changes"] for line in lines[1:]] == [
        [change] if line["night"] == night else [] for line in lines[1:]
    ]
    assert [line["drift"]["watched"] for line in lines[1:]] == [0, 0, 0]


def test_after_a_promotion_the_new_adapters_answers_to_new_rows_are_the_reference(loop, monkeypatch):
    verdicts = iter([True, False, False])
    monkeypatch.setattr(
        "trainer.simulation.loop.judge",
        lambda *_, **__: SimpleNamespace(promote=next(verdicts), checks=(), is_attempt=True),
    )
    made = []
    list(nights(replace(loop, detect=lambda reference: made.append(Silent(reference)) or made[-1])))
    first, second = made
    assert first.seen == 30
    assert second.reference.records.tolist() == loop.replay.pool[60:80].tolist()
    np.testing.assert_allclose(second.reference.confidence, 0.615, atol=1e-6)


def line(night, changes=(), raised=(), watched=100, seed=0):
    """A night's line; each alarm as the place of its last review and that of its reference."""
    found = [{"after": after, "reference_after": begun} for after, begun in raised]
    drift = {"watched": watched, "changes": list(changes), "alarms": found}
    return {"seed": seed, "night": night, "drift": drift} if night else {"seed": seed, "night": 0}


def test_the_delay_is_counted_from_the_change_to_the_first_alarm_about_it():
    lines = [line(0), line(1), line(2, [300], [(340, 0)]), line(3, (), [(390, 0)])]
    assert alarms(lines) == Alarms(watched=300, false=0, delays=(40,))


def test_an_alarm_without_a_change_since_its_reference_began_is_false():
    before = [line(0), line(1, (), [(250, 0)]), line(2, [300])]
    assert alarms(before) == Alarms(200, 1, (float("inf"),))
    behind = [line(0), line(1), line(2, [300], [(380, 300)])]
    assert alarms(behind) == Alarms(200, 1, (float("inf"),))
    astride = [line(0), line(1), line(2, [300], [(380, 299)])]
    assert alarms(astride) == Alarms(200, 0, (80,))
    assert alarms([line(0), line(1, (), [(250, 0)])]) == Alarms(100, 1, ())


def test_an_alarm_after_the_next_change_does_not_find_the_one_before():
    lines = [line(0), line(1, [300]), line(2, [500], [(530, 0)])]
    assert alarms(lines) == Alarms(200, 0, (30, float("inf")))


def test_delays_are_of_all_seeds_that_are_done_and_their_median_may_be_never():
    lines = [line(night, [300] if night == 1 else (), seed=seed) for seed in range(4) for night in range(3)]
    for seed, after in ((0, 330), (2, 310), (3, 304)):
        lines[3 * seed + 1] = line(1, [300], [(after, 0)], seed=seed)
    found = alarms(lines[:-1])
    assert (found.delays, found.delay) == ((10, 30, float("inf")), (30, 10, float("inf")))
    assert alarms(lines[3:6]).delay == (float("inf"),) * 3
    assert alarms([line(0), line(1)]).delay is None


def test_of_lines_that_nobody_watched_nothing_is_said():
    lines = [line(0), line(1), line(2)]
    del lines[2]["drift"]
    assert alarms(lines) is None
    assert alarms([]) is None
