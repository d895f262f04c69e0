"""The trainer as people and schedulers start it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reviewloop.cli import app
from reviewloop.settings import load_settings
from reviewloop.wiring.nightly import tasks_of
from reviews.errors import WrongUse
from storage.learning.leases import LeaseStore, schedule_lease, training_lease
from storage.learning.run_requests import RunRefused, RunRequestStore
from storage.learning.runs import read_pending
from tests import commands
from tests.night_scene import FRESH, TASK, WARM, NightScene, order, settings_for
from trainer.nightly.run import Ledger

_PATIENCE_SECONDS = 120


@pytest.fixture
def scene(database: str, tiny_model: Path, tmp_path: Path) -> Iterator[NightScene]:
    made = NightScene(database, tiny_model, tmp_path)
    made.serve()
    yield made
    made.close()


@pytest.fixture
def configured(scene: NightScene, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts the scene's settings into the environment."""

    def configure(trainer: dict[str, object] | None = None, **nightly: object) -> None:
        sections = settings_for(scene.url, scene.base, scene.folder, **nightly)
        sections["trainer"] |= trainer or {}
        for name, values in sections.items():
            monkeypatch.setenv(f"REVIEWLOOP_{name.upper()}", json.dumps(values))
        load_settings()

    return configure


def _process(*arguments: object, code: int = 0) -> str:
    """What a command that logs says, in a process of its own: its log would outlive this test's streams."""
    done = commands.run("trainer", *arguments, env=os.environ, timeout=_PATIENCE_SECONDS)
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def _run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["trainer", *map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_a_night_is_run_shown_and_listed(scene, configured):
    configured()
    scene.label(scene.publish(240))
    before = scene.counts()
    plan = json.loads(_process("run", "--dry-run", "--format", "json"))
    assert (plan["state"], plan["candidate_adapter"]) == ("planned", None)
    assert [one["seconds"] for one in plan["metrics"]["plan"]] == [None], "no run tells yet"
    evaluate = ("run", "--evaluate-only", "--budget-seconds", 5, "--seed", 4, "--format", "json")
    dry = json.loads(_process(*evaluate))
    assert (dry["state"], dry["config"]["seed"], dry["config"]["budget_seconds"]) == ("promoted", 4, 5)
    assert scene.counts() == before
    done = json.loads(_process("run", "--seed", 4))
    assert (done["state"], done["trigger"]) == ("promoted", "manual")
    assert done["candidate_adapter"] == dry["candidate_adapter"], "the same seed and rows, the same adapter"
    assert json.loads(_run("show", done["id"], "--format", "json")) == done
    shown = _run("show", done["id"], "--format", "table")
    for part in ("promoted (stage done)", "improvement", "base-all", "chosen by", "candidate"):
        assert part in shown
    (listed,) = map(json.loads, _run("history", "--format", "jsonl").splitlines())
    assert (listed["run"], listed["state"], listed["candidate"]) == (
        done["id"], "promoted", done["candidate_adapter"],
    )  # fmt: skip
    (status,) = map(json.loads, _run("status", "--format", "jsonl").splitlines())
    assert (status["active"], status["last_state"], status["at_work"], status["new_labels"]) == (
        done["candidate_adapter"], "promoted", None, 0,
    )  # fmt: skip
    assert status["next_night"].startswith("20")
    assert "02:00 UTC" in status["next_night"]
    shown = _process("run", "--dry-run", "--format", "table")
    for part in ("planned", "base-all", "would take", "as the last run did"):
        assert part in shown
    assert scene.runs.history(TASK)[0].id == done["id"], "a plan is written nowhere"
    scene.label(scene.publish(3))
    assert read_pending(scene.database, TASK).new_labels == 3


def test_a_run_that_waits_says_so_and_is_no_error(scene, configured):
    configured()
    shown = _run("show", scene.night().id, "--format", "table")
    assert "waiting (stage done)" in shown
    assert "40 more labelled reviews are needed to train on" in shown
    assert "more labels in all" in shown


def test_while_another_trainer_works_a_run_says_who_and_status_shows_it(scene, configured):
    configured()
    LeaseStore(scene.database).take(training_lease(TASK), "host:1", 600)
    assert "Error: Another trainer works on the task 'sentiment': host:1, until" in _process("run", code=1)
    (status,) = map(json.loads, _run("status", "--format", "jsonl").splitlines())
    assert status["at_work"] == "host:1"
    with pytest.raises(WrongUse, match="No worker scores for the task 'tone'"):
        tasks_of(load_settings(), "tone")
    with pytest.raises(WrongUse, match="no training run 99"):
        _run("show", 99)


class Reporting:
    """A ledger of a night that reports drift itself."""

    def __init__(self, inner: Ledger, scene: NightScene, insert: str) -> None:
        self._inner, self._scene, self._insert = inner, scene, insert

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def reach(self, stage: str) -> None:
        self._inner.reach(stage)
        if stage == "queue":
            self._scene.rows(self._insert)


def test_a_drift_report_asks_for_a_run_until_one_began(scene):
    adapter = scene.serve().version
    insert = (
        "INSERT INTO drift_report (task, reference_since, reference_until, since, until, reviews, verdict, "
        "measures, attribution, wants_training) "
        "VALUES ('sentiment', now(), now(), now(), clock_timestamp(), 9, "
        f"'{{}}', '{{{{\"adapter\": \"{adapter}\"}}}}', '{{{{}}}}', {{}}) RETURNING 1"
    )
    assert not read_pending(scene.database, TASK).is_drifting
    scene.rows(insert.format("drift", "true"))
    scene.rows(insert.format("stable", "true"))
    assert read_pending(scene.database, TASK).is_drifting, "a look at another window hides no alarm"
    scene.runner(lambda ledger: Reporting(ledger, scene, insert.format("drift", "false"))).run(order())
    assert not read_pending(scene.database, TASK).is_drifting, (
        "what the run itself reported asks for no other"
    )
    scene.runner(lambda ledger: Reporting(ledger, scene, insert.format("drift", "true"))).run(order())
    assert read_pending(scene.database, TASK).is_drifting, (
        "the watch raised this alarm while a run was at work"
    )
    scene.serve(seed=2)
    assert not read_pending(scene.database, TASK).is_drifting, "the adapter that drifted serves no more"


@pytest.mark.parametrize(("trigger", "hours_ago"), [("labels", 12), ("nightly", 2)])
def test_a_schedule_starts_a_run_when_labels_or_a_missed_night_ask_and_sigterm_ends_both(
    scene, configured, trigger, hours_ago
):
    scene.label(scene.publish(240))
    night = datetime.now(UTC) - timedelta(hours=hours_ago)
    configured({"epochs": 2_000}, min_new_labels=1, poll_seconds=1, cron=f"{night.minute} {night.hour} * * *")
    log = scene.folder / "schedule.log"
    with log.open("w") as said:
        process = commands.start("trainer", "schedule", env=os.environ, stdout=said)
    try:
        _wait_until(lambda: [run.stage for run in scene.runs.history(TASK)] == ["fit"], process, log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=_PATIENCE_SECONDS) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
    (run,) = scene.runs.history(TASK)
    assert (run.trigger, run.state) == (trigger, "failed")
    assert "was stopped" in run.error
    assert LeaseStore(scene.database).holder(training_lease(TASK)) is None
    said = log.read_text()
    assert "The next nightly run begins" in said
    assert "run_stopped" in said
    assert "Execution of job" not in said, "the scheduler's own words"


def test_a_schedule_shows_itself_and_runs_what_somebody_asks_for(scene, configured):
    scene.label(scene.publish(240))
    configured(min_new_labels=0, cron="0 0 1 1 *")
    requests, leases = RunRequestStore(scene.database), LeaseStore(scene.database)
    asked = requests.ask(TASK, "olga", "the labels are corrected")
    log = scene.folder / "schedule.log"
    with log.open("w") as said:
        process = commands.start("trainer", "schedule", env=os.environ, stdout=said)
    try:
        _wait_until(lambda: requests.latest(TASK).state == "begun", process, log)
        assert leases.holder(schedule_lease(TASK)) is not None
        run = requests.latest(TASK).run
        with pytest.raises(RunRefused, match="is at work"):
            requests.ask(TASK, "pavel", "me too")
        _wait_until(lambda: scene.runs.show(run).finished_at is not None, process, log)
        done = scene.runs.show(run)
        assert (done.trigger, done.state) == ("requested", "promoted"), done
        assert requests.of_run(run).id == asked.id
        assert done.metrics["confusion"].keys() == {"active", "candidate"}
        rows = sum(done.manifest["rows"][name] for name in ("test", "audit"))
        assert {sum(map(sum, counts)) for counts in done.metrics["confusion"].values()} == {rows}
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=_PATIENCE_SECONDS) == 0, log.read_text()
    assert leases.holder(schedule_lease(TASK)) is None


def test_a_requested_run_that_cannot_begin_says_why_in_its_request(scene, configured):
    configured()
    requests = RunRequestStore(scene.database)
    asked = requests.ask(TASK, "olga", "now")
    requests.take((TASK,), "host:1")
    LeaseStore(scene.database).take(training_lease(TASK), "host:9", 600)
    _process("run", "--task", TASK, "--trigger", "requested", "--request", asked.id, code=1)
    failed = requests.latest(TASK)
    assert (failed.state, failed.run) == ("failed", None)
    assert "Another trainer works on the task 'sentiment': host:9" in failed.error
    assert scene.runs.history(TASK) == []


def _wait_until(is_so: Callable[[], bool], process: commands.Running, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not is_so():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def test_two_processes_do_one_run_and_the_first_alone_holds_lease_and_database(
    scene: NightScene, configured: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both recipes are fitted together, also the one that continues from the files of the active adapter."""
    configured({"epochs": 2}, recipes=[WARM, FRESH], budget_seconds=600)
    scene.label(scene.publish(240))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    launcher = Path(sys.executable).with_name("torchrun")
    done = subprocess.run(
        [launcher, "--standalone", "--nproc-per-node", "2", "--no-python", sys.executable, "-m", "reviewloop",
         "trainer", "run", "--seed", "4", "--format", "json"],
        env=os.environ, capture_output=True, text=True, check=False, timeout=_PATIENCE_SECONDS * 2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    (run,) = scene.runs.history(TASK)
    assert json.loads(done.stdout)["id"] == run.id, "one of the two says it"
    assert run.state in {"promoted", "kept"}, run.verdict
    assert [one["start"] for one in run.metrics["recipes"]] == ["active", "base"]
    assert done.stderr.count("run_started") == 1
    assert LeaseStore(scene.database).holder(training_lease(TASK)) is None, "it was given back"


def test_a_schedule_is_not_started_as_several_processes(
    configured: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    configured()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(WrongUse, match="let torchrun start 'trainer run'"):
        _run("schedule")
