"""The learning loop turns under a role that may do that and nothing else."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url
from typer.testing import CliRunner

from reviewloop.cli import app
from storage.roles import TRAINER_GRANTS, DatabaseRole, set_up_roles
from tests.night_scene import TASK, NightScene

ROLE, PASSWORD = 'trai"ner', "pass-word of the 'tests'"

Run = Callable[..., str]


@pytest.fixture
def scene(database: str, tiny_model: Path, tmp_path: Path) -> Iterator[NightScene]:
    """A random adapter serves, and 240 reviews are labelled; runs and commands log in as the trainer."""
    made = NightScene(database, tiny_model, tmp_path)
    made.serve()
    made.label(made.publish(240))
    set_up_roles(made.database, [DatabaseRole(ROLE, TRAINER_GRANTS, PASSWORD)])
    made.url = make_url(database).set(username=ROLE, password=PASSWORD).render_as_string(hide_password=False)
    yield made
    quoted = ROLE.replace('"', '""')
    made.execute(f'DROP OWNED BY "{quoted}"')
    made.execute(f'DROP ROLE "{quoted}"')
    made.close()


@pytest.fixture
def run(scene: NightScene, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command as the trainer."""
    monkeypatch.setenv("REVIEWLOOP_DATABASE__URL", scene.url)
    monkeypatch.setenv("REVIEWLOOP_CLASSIFIER__BASE_MODEL", str(scene.base))
    monkeypatch.setenv("REVIEWLOOP_CLASSIFIER__DEVICE", "cpu")
    monkeypatch.setenv("REVIEWLOOP_CONSUMER__ADAPTER_CACHE", str(scene.folder / "cache"))

    def run(*arguments: object, typed: str = "") -> str:
        result = CliRunner().invoke(app, list(map(str, arguments)), input=typed)
        if result.exception is not None:
            raise result.exception
        return result.stdout

    return run


def test_a_night_labelling_and_drift_reports_run_as_the_trainer(scene: NightScene, run: Run) -> None:
    scene.publish(30)
    scene.execute("UPDATE review SET published_at = now()")
    assert scene.night().state == "promoted"
    assert scene.rows("SELECT DISTINCT state FROM label_task") == [("open",)]

    run("label", "--annotator", "ann", typed="1\nskip\nz\nz\n2\n")
    assert scene.rows("SELECT label FROM label WHERE annotator = 'ann' ORDER BY id DESC LIMIT 1") == [
        ("neutral",)
    ]
    file = scene.folder / "labels.csv"
    file.write_text("review_id,label\nreview-0,neutral\nnobody's,neutral\n")
    assert "Imported 1 labels; 1 wait" in run("label", "import", file, "--annotator", "bob")
    assert "Queued" in run("label", "queue", "fill")
    run("label", "suspects", "--queue")
    run("label", "export", "--queued")
    run("drift", "report", "--queue", 5)
    run("drift", "watch", "--once")
    run("adapters", "watch")
    run("adapters", "rollback", "--reason", "a test")
    run("trainer", "status")
    assert len(scene.adapters.history(TASK)) == 3
