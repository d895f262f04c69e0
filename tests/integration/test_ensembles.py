"""An ensemble serves a task: combined, activated and rolled back by commands, followed by a worker."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from classifier.adapters.manifest import describe_adapter, read_files
from classifier.interface import load
from consumer.measures import Measures
from reviewloop.cli import app
from reviewloop.settings import Settings
from reviewloop.wiring.nightly import run_parts
from reviewloop.wiring.registry import load_registered, open_database, registered_directory
from reviewloop.wiring.workers import open_worker
from reviews.errors import AdapterError, WrongUse
from storage.adapters.registry import AdapterStore
from tests.integration.system import System

TASK = "sentiment"


@pytest.fixture
def made(system: Callable[..., System], tiny_adapters: tuple[Path, Path]) -> System:
    """Two registered adapters, of which the first serves."""
    made = system(partitions=1)
    _run(made, "db", "upgrade")
    _run(made, "adapters", "add", tiny_adapters[0], "--activate")
    _run(made, "adapters", "add", tiny_adapters[1])
    return made


@pytest.fixture
def settings(made: System, tiny_model: Path, tmp_path: Path) -> Settings:
    return Settings(
        kafka={"bootstrap_servers": made.bootstrap_servers, "reviews_topic": made.topic},
        database={"url": made.environment["REVIEWLOOP_DATABASE__URL"]},
        classifier={"base_model": str(tiny_model), "device": "cpu", "precision": "fp32"},
        consumer={"adapter_cache": str(tmp_path / "cache"), "adapter_poll_seconds": 0.1},
    )


@pytest.fixture
def names(tiny_adapters: tuple[Path, Path]) -> list[str]:
    return [describe_adapter(read_files(directory)[0]).version for directory in tiny_adapters]


@pytest.fixture
def serving(settings: Settings) -> Iterator[Measures]:
    """A worker runs; its measures say what serves."""
    stopping, measures = threading.Event(), Measures()
    with open_worker(settings, stopping, measures=measures) as worker:
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            yield measures
        finally:
            stopping.set()
            thread.join(60)


def _run(made: System, *arguments: object) -> str:
    """Standard output of a command, called in this process."""
    result = CliRunner(env=made.environment).invoke(app, list(map(str, arguments)))
    if result.exception is not None:
        raise result.exception
    return result.stdout


def _promoted(made: System, names: list[str]) -> str:
    ensemble = _run(made, "adapters", "combine", *names).strip()
    _run(made, "adapters", "promote", ensemble)
    return ensemble


def _wait(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _score(made: System, kind: str) -> None:
    before = made.sql("SELECT count(*) FROM review")[0][0]
    made.publish([{"id": f"{kind}{number}", "text": f"{kind} {number}"} for number in range(20)])
    _wait(lambda: made.sql("SELECT count(*) FROM review")[0][0] == before + 20)


def test_rows_name_the_ensemble_that_served_and_after_a_rollback_its_predecessor(
    made: System, names: list[str], tiny_adapters: tuple[Path, Path], tiny_model: Path, serving: Measures
):
    _score(made, "first")
    ensemble = _promoted(made, names)
    _wait(lambda: serving.adapters == {TASK: ensemble})
    _score(made, "second")
    _run(made, "adapters", "rollback")
    _wait(lambda: serving.adapters == {TASK: names[0]})
    _score(made, "third")

    found = made.sql(
        "SELECT DISTINCT split_part(text, ' ', 1), adapter_version FROM scored_reviews ORDER BY 1"
    )
    assert found == [("first", names[0]), ("second", ensemble), ("third", names[0])]
    rows = made.sql("SELECT text, probabilities FROM scored_reviews WHERE adapter_version = %s", ensemble)
    texts = [text for text, _ in rows]
    each = [
        [one.probabilities for one in load(tiny_model, directory).predict(texts)]
        for directory in tiny_adapters
    ]
    np.testing.assert_allclose([said for _, said in rows], np.mean(each, axis=0), atol=2e-2)


def test_the_same_members_are_one_ensemble_which_the_registry_shows(made: System, names: list[str]):
    ensemble = _run(made, "adapters", "combine", *names).strip()
    assert _run(made, "adapters", "combine", *names[::-1]).strip() == ensemble
    shown = _run(made, "adapters", "show", ensemble)
    assert all(name in shown for name in names)
    with pytest.raises(WrongUse, match="is not registered"):
        _run(made, "adapters", "combine", names[0], "sentiment-none")


def test_an_ensemble_whose_member_is_damaged_leaves_the_old_adapter_serving(
    made: System, names: list[str], settings: Settings, serving: Measures
):
    with open_database(settings) as database:
        store = AdapterStore(database)
        made.sql(
            "UPDATE adapter_file SET content = 'x' WHERE path = 'adapter_model.safetensors' AND adapter_id = "
            "(SELECT id FROM adapter WHERE version = %s) RETURNING path",
            names[1],
        )
        with capture_logs() as told:
            ensemble = _promoted(made, names)
            _wait(lambda: any(line["event"] == "adapter_refused" for line in told))
        with pytest.raises(AdapterError, match="damaged in the database"):
            load_registered(settings, store, ensemble)
        _score(made, "still")
    assert made.sql("SELECT DISTINCT adapter_version FROM scored_reviews") == [(names[0],)]
    assert serving.adapters == {TASK: names[0]}


def test_a_training_run_is_judged_against_the_ensemble_and_knows_what_its_members_learned(
    made: System, names: list[str], settings: Settings
):
    ensemble = _promoted(made, names)
    with open_database(settings) as database:
        store = AdapterStore(database)
        parts = run_parts(settings, database, TASK, store.active(TASK))
        assert parts.directory_of(ensemble) is None  # nothing goes on from it
        assert registered_directory(settings, store, names[0]).is_dir()
        assert parts.load_registered(ensemble).predict(["Good."])[0].adapter_version == ensemble
        assert parts.trained_on(ensemble) == frozenset()
        assert parts.adapters.find(ensemble).labels == parts.adapters.find(names[0]).labels
