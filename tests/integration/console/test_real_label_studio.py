"""A real Label Studio beside a real console: reviews go there, and annotations come back."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from pydantic import SecretStr

from reviewloop.files.label_studio import to_config
from reviews.account import Role
from reviews.slices import SliceShares, slice_of
from storage.accounts.users import UserStore
from storage.database import Database
from storage.settings import DatabaseSettings
from tests import commands
from tests.console_process import ConsoleProcess, free_port
from tests.environments import STUDIO_TOKEN, STUDIO_USER, folder_of, running, studio_environment
from tests.integration.queued_reviews import LABELS, answers, queue_reviews, states
from tests.integration.system import make_environment

_PATIENCE_SECONDS = 30


class Studio:
    """Label Studio, as its user uses it.

    Attributes:
        url: Where it is.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        request = Request(f"{self.url}{path}", method=method)  # noqa: S310  of this test
        request.add_header("Authorization", f"Token {STUDIO_TOKEN}")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        with urlopen(request, timeout=60) as answer:  # noqa: S310  the same
            raw = answer.read()
        return json.loads(raw) if raw else None

    def annotate(self, task: int, label: str) -> int:
        """A new annotation; its number."""
        result = self._result(label)
        number: int = self.ask("POST", f"/api/tasks/{task}/annotations/", {"result": result})["id"]
        return number

    def change(self, annotation: int, label: str) -> None:
        self.ask("PATCH", f"/api/annotations/{annotation}/", {"result": self._result(label)})

    def delete(self, annotation: int) -> None:
        self.ask("DELETE", f"/api/annotations/{annotation}/")

    def _result(self, label: str) -> list[dict[str, Any]]:
        choice = {"choices": [label]}
        return [{"from_name": "sentiment", "to_name": "text", "type": "choices", "value": choice}]


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A Label Studio with one user and a database of its own."""
    home = folder_of("label_studio")
    folder, port = tmp_path_factory.mktemp("label-studio") / "data", free_port()
    shutil.copytree(home / "prepared", folder)
    command = [
        str(home / "bin" / "label-studio"), "start", "--no-browser", "--internal-host", "127.0.0.1",
        "--port", str(port), "--data-dir", str(folder),
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with running(command, f"{url}/health", folder / "log", studio_environment(folder), folder):
        yield Studio(url)


@pytest.fixture
def console(database: str, studio: Studio, tmp_path: Path) -> Iterator[ConsoleProcess]:
    """A console that knows where Label Studio is."""
    (tmp_path / "reviewloop.toml").write_text(
        f'[label_studio]\nurl = "{studio.url}"\ntoken = "{STUDIO_TOKEN}"\n[console]\ntry_it = false\n'
    )
    process = ConsoleProcess(database, tmp_path)
    process.start()
    try:
        yield process
    finally:
        process.kill()


def until(is_true: Callable[[], bool]) -> None:
    """Wait for something that happens in another process."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_reviews_go_to_label_studio_predictions_are_shown_and_annotations_come_back(
    studio: Studio, console: ConsoleProcess, database: str, tmp_path: Path
) -> None:
    def told(*arguments: object) -> str:
        environment = make_environment(REVIEWLOOP_DATABASE__URL=database)
        done = commands.run("label-studio", *arguments, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with closing(Database(DatabaseSettings(url=SecretStr(database)))) as opened:
        queue_reviews(opened, 3)
        UserStore(opened).add("boss", Role.OWNER, "the tests")
        config = to_config("sentiment", [*LABELS, "unsure"])
        project = studio.ask("POST", "/api/projects/", {"title": "Reviews", "label_config": config})["id"]

        assert "is connected" in told("connect", project, "--console", console.address, "--user", "boss")
        assert "Added 3 reviews" in told("push", project)
        assert "Added 0 reviews" in told("push", project), "none twice"
        assert "is connected" in told("connect", project, "--console", console.address, "--user", "boss")
        assert len(studio.ask("GET", f"/api/ml/?project={project}")) == 1
        (hook,) = studio.ask("GET", f"/api/webhooks/?project={project}")
        assert hook["url"].startswith(console.address)

        tasks = studio.ask("GET", f"/api/tasks/?project={project}&fields=all")["tasks"]
        tasks.sort(key=lambda task: task["data"]["text"])
        studio.ask(
            "POST",
            f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}",
            {"selectedItems": {"all": True, "excluded": []}},
        )
        assert slice_of(tasks[0]["data"]["review_id"], SliceShares()) == "audit"
        assert studio.ask("GET", f"/api/tasks/{tasks[0]['id']}/")["predictions"] == []
        (prediction,) = studio.ask("GET", f"/api/tasks/{tasks[1]['id']}/")["predictions"]
        assert prediction["result"][0]["value"] == {"choices": ["positive"]}
        assert prediction["model_version"] == "sentiment-0123456789ab"

        annotation = studio.annotate(tasks[0]["id"], "negative")
        until(lambda: len(answers(opened)) == 1)
        assert answers(opened)[0][1:] == ("negative", STUDIO_USER, "label-studio")
        assert states(opened) == ["done", "open", "open"]
        studio.change(annotation, "neutral")
        until(lambda: len(answers(opened)) == 2)
        assert answers(opened)[1][1:] == ("neutral", STUDIO_USER, "label-studio")
        studio.delete(annotation)
        until(lambda: len(answers(opened)) == 3)
        assert answers(opened)[2][1:] == (None, STUDIO_USER, "undo")
        assert states(opened) == ["open", "open", "open"]

        kept = studio.annotate(tasks[1]["id"], "positive")
        until(lambda: len(answers(opened)) == 4)
        console.kill()
        studio.annotate(tasks[2]["id"], "negative")
        studio.delete(kept)
        assert "Took in 1 annotations and took back 1" in told("pull", project)
        assert "Took in 0 annotations and took back 0" in told("pull", project)
        assert [row[1:] for row in answers(opened)[4:]] == [
            (None, STUDIO_USER, "undo"),
            ("negative", STUDIO_USER, "label-studio"),
        ]
