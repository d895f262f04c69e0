"""Trainers that die or freeze: what serves goes on serving, and the next night is clean."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.learning.leases import LeaseStore, training_lease
from tests.faults import trainer
from tests.faults.own_stack import OwnStack
from tests.faults.scene import Scene
from tests.faults.worker_process import WorkerProcess
from tests.night_scene import TASK, NightScene, settings_for
from tests.tiny import tiny_base

BEFORE_IT_DECIDES = ("begun", "collect", "snapshot", "fit", "evaluate", "register", "promoting")
AFTER_IT_PROMOTED = ("decided", "queue", "drift", "closed")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def scene(database: str, base: Path, tmp_path: Path) -> Iterator[NightScene]:
    made = NightScene(database, base, tmp_path)
    made.serve()
    made.label(made.publish(240))
    made.publish(20)
    yield made
    made.close()


@pytest.fixture
def start(scene: NightScene) -> Iterator[Any]:
    """Starts trainers, and kills in the end what is left of them."""
    started: list[WorkerProcess] = []

    def start(stop: str | None = None, **nightly: Any) -> WorkerProcess:
        settings = settings_for(scene.url, scene.base, scene.folder, **nightly)
        request = {"settings": settings, "stops": {stop: 1} if stop else {}, "task": TASK}
        log = scene.folder / f"trainer-{len(started)}.log"
        started.append(WorkerProcess(request, log, trainer.run))
        return started[-1]

    yield start
    for process in started:
        process.kill()


def _kill_at(scene: NightScene, start: Any, point: str) -> None:
    process = start(point)
    process.wait_for(f"at {point}")
    process.kill()
    scene.expire_leases()  # as time would


def test_a_trainer_killed_in_each_stage_leaves_what_serves_and_the_next_run_is_clean(
    scene: NightScene, start: Any
):
    active = scene.adapters.active(TASK)
    for killed, point in enumerate(BEFORE_IT_DECIDES, start=1):
        _kill_at(scene, start, point)
        assert scene.adapters.active(TASK) == active, point
        runs = scene.runs.history(TASK)
        assert [run.state for run in runs] == ["running", *["failed"] * (killed - 1)], point
    process = start()
    process.wait_for("promoted")
    last, *killed_runs = scene.runs.history(TASK)
    assert (last.state, last.stage, last.error) == ("promoted", "done", None)
    assert [run.stage for run in reversed(killed_runs)] == [
        "start", "collect", "snapshot", "fit", "evaluate", "register", "promote",
    ]  # fmt: skip
    assert all(run.error and run.finished_at for run in killed_runs)
    assert scene.adapters.active(TASK).version == last.candidate_adapter
    assert len(scene.adapters.history(TASK)) == 2
    assert len(scene.runs.items(last.id)) == 240


def test_a_trainer_killed_after_it_promoted_leaves_the_new_adapter_serving_and_its_run_promoted(
    scene: NightScene, start: Any
):
    for number, point in enumerate(AFTER_IT_PROMOTED):
        scene.serve(seed=20 + number)  # one that knows nothing, for the night to replace
        _kill_at(scene, start, point)
        run = scene.runs.history(TASK)[0]
        assert run.state == "promoted", point
        assert scene.adapters.active(TASK).version == run.candidate_adapter, point
    process = start()
    process.wait_for("kept")  # nothing is better than what it would make again
    runs = scene.runs.history(TASK)
    assert [run.state for run in runs] == ["kept", *["promoted"] * len(AFTER_IT_PROMOTED)]
    assert all(run.finished_at for run in runs)


def test_a_trainer_frozen_past_its_lease_wakes_up_and_cannot_promote(scene: NightScene, start: Any):
    active = scene.adapters.active(TASK)
    frozen = start("promoting", lease_seconds=1)
    frozen.wait_for("at promoting")
    frozen.freeze()
    scene.expire_leases()
    # The other one changes nothing that serves: a compare-and-set would find what it expects.
    other = start(min_train_rows=10_000)
    other.wait_for("waiting")
    assert scene.adapters.active(TASK) == active
    frozen.go_on()
    frozen.thaw()
    frozen.wait_for("LeaseLost")
    assert scene.adapters.active(TASK) == active
    last, first = scene.runs.history(TASK)
    assert (last.state, first.state) == ("waiting", "failed")
    assert "lost its lease in the stage 'promote'" in first.error
    assert LeaseStore(scene.database).holder(training_lease(TASK)) is None


def test_a_database_that_is_killed_and_comes_back_costs_no_night(
    own_stack: OwnStack, killable: Scene, base: Path, tmp_path: Path
):
    scene = NightScene(killable.database_url, base, tmp_path / "night")
    scene.serve()
    scene.label(scene.publish(240))
    request = {"settings": settings_for(scene.url, base, tmp_path), "stops": {"evaluate": 1}, "task": TASK}
    process = WorkerProcess(request, tmp_path / "trainer.log", trainer.run)
    try:
        process.wait_for("at evaluate")
        own_stack.kill_postgres()
        process.go_on()
        process.wait_for_event("database_unavailable")
        own_stack.start()
        process.wait_for("promoted")
    finally:
        process.kill()
    (run,) = scene.runs.history(TASK)
    assert (run.state, run.error) == ("promoted", None)
    assert scene.adapters.active(TASK).version == run.candidate_adapter
    scene.close()
