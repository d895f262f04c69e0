"""How far a run's fits are: every step is told, some are kept, and no fit waits for the database."""

import pytest

from reviews.errors import Unavailable
from tests.unit.trainer.nightly.rows import snapshot
from trainer.errors import RunStopped
from trainer.fitting.fit_data import FitProgress
from trainer.nightly.candidates import Plan
from trainer.nightly.progress import FitWatch, RunProgress
from trainer.settings import TrainerSettings


class Keeper:
    def __init__(self) -> None:
        self.kept: list[dict[str, object]] = []
        self.is_away = False
        self.tried = 0

    def check(self) -> None:
        if len(self.kept) == 4:
            raise RunStopped("enough")

    def note_progress(self, progress: dict[str, object], /) -> None:
        self.tried += 1
        if self.is_away:
            raise Unavailable("away")
        self.kept.append(progress)


@pytest.fixture
def plans() -> list[Plan]:
    rows = snapshot(100).of("train")
    return [Plan(name, None, rows, TrainerSettings()) for name in ("head", "warm")]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_every_step_is_told_and_one_in_ten_seconds_is_kept(plans):
    clock, keeper, told = Clock(), Keeper(), []
    watch = FitWatch(keeper, plans, 60.0, clock, told.append)
    watch.begin(plans[1])
    report = watch.report_of("a note")
    for step in range(1, 26):
        clock.now += 1.0
        report(FitProgress(1, step, 40, 0.51234, 1e-3))
    assert told[0] == RunProgress("warm", 2, 2, 1, 1, 40, 0.5123, 1.0, 60.0)
    assert len(told) == 25
    assert [one["step"] for one in keeper.kept] == [10, 20]


def test_a_fit_goes_on_while_the_database_is_away_and_asks_less_often(plans):
    clock, keeper = Clock(), Keeper()
    keeper.is_away = True
    watch = FitWatch(keeper, plans, 600.0, clock, lambda _: None)
    watch.begin(plans[0])
    report = watch.report_of("a note")
    for step in range(1, 71):
        clock.now += 1.0
        report(FitProgress(1, step, 100, 0.5, 1e-3))
    assert keeper.tried == 2, "after 10 s, and a minute later"


def test_a_run_that_has_to_end_ends_at_the_next_step(plans):
    clock, keeper = Clock(), Keeper()
    watch = FitWatch(keeper, plans, 600.0, clock, lambda _: None)
    report = watch.report_of("a note")
    for step in range(1, 5):
        clock.now += 10.0
        report(FitProgress(1, step, 100, 0.5, 1e-3))
    with pytest.raises(RunStopped):
        report(FitProgress(1, 5, 100, 0.5, 1e-3))
    assert len(keeper.kept) == 4
