"""A real tracking server of MLflow: runs and adapters are mirrored, each once, and nothing waits."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest
from pydantic import SecretStr

from reviewloop.integrations.mlflow_mirror import MlflowMirror, mirroring
from reviewloop.integrations.mlflow_server import MlflowServer
from reviewloop.integrations.settings import MlflowSettings
from reviews.adapter import AdapterVersion
from reviews.errors import Unavailable
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.learning.leases import LeaseStore, training_lease
from storage.learning.runs import TrainingRunStore
from storage.settings import DatabaseSettings
from tests.console_process import free_port
from tests.environments import folder_of, running

TASK = "sentiment"
LABELS = ("negative", "neutral", "positive")
FILES = {"adapter_config.json": b'{"r": 8}', "deep/weights.safetensors": bytes(range(256)) * 400}


class Tracking:
    """The server, as any other client sees it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        raw = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.url}/api/2.0/mlflow/{path}", raw, method=method)  # noqa: S310  of this test
        request.add_header("Content-Type", "application/json")
        with urlopen(request, timeout=60) as answer:  # noqa: S310  the same
            return json.loads(answer.read())

    def runs(self, name: str) -> list[dict[str, Any]]:
        experiment = self.ask("GET", f"experiments/get-by-name?experiment_name={name}")["experiment"]
        wanted = {"experiment_ids": [experiment["experiment_id"]], "order_by": ["attributes.start_time ASC"]}
        found: list[dict[str, Any]] = self.ask("POST", "runs/search", wanted).get("runs", [])
        return found

    def versions(self, name: str) -> list[dict[str, Any]]:
        query = quote(f"name='{name}'")
        found: list[dict[str, Any]] = self.ask("GET", f"model-versions/search?filter={query}").get(
            "model_versions", []
        )
        return sorted(found, key=lambda one: int(one["version"]))

    def serving(self, name: str) -> str:
        found = self.ask("GET", f"registered-models/alias?name={name}&alias=serving")["model_version"]
        return _values(found["tags"])["reviewloop.adapter"]

    def file(self, run: dict[str, Any], path: str) -> bytes:
        place = run["info"]["artifact_uri"].removeprefix("mlflow-artifacts:/")
        address = f"{self.url}/api/2.0/mlflow-artifacts/artifacts/{place}/{path}"
        with urlopen(address, timeout=60) as answer:  # noqa: S310  the same
            content: bytes = answer.read()
        return content


def _values(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    return {one["key"]: one["value"] for one in pairs}


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracking]:
    """A tracking server that keeps files itself."""
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    home = folder_of("mlflow")
    environment = {"PATH": f"{home / 'bin'}:{os.environ['PATH']}", "HOME": str(folder)}
    command = [
        str(home / "bin" / "python"), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
        "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination", str(folder / "files"),
        "--workers", "1",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with running(command, f"{url}/health", folder / "log", environment, folder):
        yield Tracking(url)


class Scene:
    """A database with adapters and runs, and a mirror under a name of its own.

    Attributes:
        name: The beginning of the names on the server.
    """

    def __init__(self, url: str, server: str, name: str) -> None:
        self.database = Database(DatabaseSettings(url=SecretStr(url)))
        self.adapters = AdapterStore(self.database)
        self.runs = TrainingRunStore(self.database)
        self.name = f"{name}-{TASK}"
        self.settings = MlflowSettings(tracking_uri=server, name=name, timeout_seconds=30)

    def mirror(self) -> tuple[int, int, int] | None:
        return MlflowMirror(self.settings, self.database).mirror()

    def adapter(self, digits: str, **more: Any) -> AdapterVersion:
        made = AdapterVersion(
            f"{TASK}-{digits * 12}",
            TASK,
            LABELS,
            "base",
            None,
            digits * 64,
            1.5,
            {"test_macro_f1": 0.8},
            **more,
        )
        self.adapters.add(made, FILES)
        return made

    def activate(self, adapter: AdapterVersion) -> None:
        self.adapters.activate(
            adapter, expected=self.adapters.active(TASK), decided_by="the tests", reason="a test"
        )

    def run(self, candidate: str | None, *, fails: bool = False) -> int:
        """A run that has ended."""
        lease = LeaseStore(self.database).take(training_lease(TASK), "the tests", 60)
        assert lease is not None
        config = {"seed": 1, "nightly": {"recipes": [{"name": "base-all", "learning_rate": 0.01}]}}
        number = self.runs.start(TASK, "manual", lease, config, None)
        if fails:
            self.runs.fail(number, lease, "It failed.")
        else:
            self.runs.decide(
                number,
                lease,
                "kept",
                candidate=candidate,
                metrics={"candidate": {"accuracy": 0.9, "nothing": None}, "chosen": "base-all"},
                verdict={"reasons": ["No better."], "checks": [
                    {"name": "floor", "passed": True, "value": 0.9, "limit": 0.5}]},
            )  # fmt: skip
            self.runs.close(number, lease)
        LeaseStore(self.database).release(lease)
        return number


@pytest.fixture
def scene(database: str, tracking: Tracking, request: pytest.FixtureRequest) -> Iterator[Scene]:
    made = Scene(database, tracking.url, f"t{abs(hash(request.node.name))}")
    with closing(made.database):
        yield made


def test_runs_and_adapters_are_mirrored_with_parameters_metrics_files_and_which_is_active(
    scene: Scene, tracking: Tracking
) -> None:
    by_hand = scene.adapter("a")
    scene.activate(by_hand)
    made = scene.adapter("b", parent=by_hand.version)
    number = scene.run(made.version)
    scene.run(None, fails=True)
    assert scene.mirror() == (2, 2, 1)
    assert scene.mirror() == (0, 0, 0)
    runs = {one["info"]["run_name"]: one for one in tracking.runs(scene.name)}
    assert runs.keys() == {
        f"training run {number}",
        f"training run {number + 1}",
        f"adapter {by_hand.version}",
    }
    run = runs[f"training run {number}"]
    assert run["info"]["status"] == "FINISHED"
    assert _values(run["data"]["params"])["nightly.recipes.base-all.learning_rate"] == "0.01"
    assert _values(run["data"]["metrics"]) == {"candidate.accuracy": 0.9, "gate.floor": 0.9}
    assert _values(run["data"]["tags"])["reviewloop.reasons"] == "No better."
    assert tracking.file(run, "adapter/deep/weights.safetensors") == FILES["deep/weights.safetensors"]
    assert runs[f"training run {number + 1}"]["info"]["status"] == "FAILED"
    versions = tracking.versions(scene.name)
    assert [_values(one["tags"])["reviewloop.adapter"] for one in versions] == [by_hand.version, made.version]
    assert versions[1]["run_id"] == run["info"]["run_id"]
    assert tracking.serving(scene.name) == by_hand.version


def test_the_alias_follows_which_is_active(scene: Scene, tracking: Tracking) -> None:
    one, two = scene.adapter("c"), scene.adapter("d")
    for adapter in (one, two, one):
        scene.activate(adapter)
        assert scene.mirror() is not None
        assert tracking.serving(scene.name) == adapter.version


def test_a_mirror_that_was_killed_before_it_remembered_makes_nothing_twice(
    scene: Scene, tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.run(scene.adapter("e").version)
    steps = ["run", "log", "end", "upload", "model_version"]
    for step in steps:
        real = getattr(MlflowServer, step)

        def killed(*given: Any, real: Any = real, **more: Any) -> Any:
            real(*given, **more)
            raise Unavailable("killed")

        with monkeypatch.context() as patch:
            patch.setattr(MlflowServer, step, killed)
            with pytest.raises(Unavailable):
                scene.mirror()
    assert scene.mirror() == (0, 1, 0)
    assert len(tracking.runs(scene.name)) == 1
    assert len(tracking.versions(scene.name)) == 1


def test_two_mirrors_do_not_work_at_once(scene: Scene) -> None:
    lease = LeaseStore(scene.database).take("mlflow", "another", 60)
    assert lease is not None
    assert scene.mirror() is None


def test_a_server_that_never_answers_delays_nothing_and_gets_everything_later(
    scene: Scene, tracking: Tracking
) -> None:
    scene.adapter("f")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        away = scene.settings.model_copy(
            update={"tracking_uri": f"http://127.0.0.1:{silent.getsockname()[1]}", "timeout_seconds": 600}
        )
        with mirroring(away, scene.database, Event()):
            accepted, _ = silent.accept()  # it asks, and waits for ever
            scene.run(None)
        accepted.close()
    threads = [one for one in threading.enumerate() if one.name == "mlflow"]
    assert all(one.daemon for one in threads), "the process does not wait for it"
    for one in threads:
        one.join(30)
    assert scene.mirror() == (1, 1, 0)
    with pytest.raises(Unavailable, match="does not answer"):
        MlflowMirror(
            scene.settings.model_copy(update={"tracking_uri": away.tracking_uri}), scene.database
        ).mirror()


def test_an_address_that_is_no_tracking_server_is_said(scene: Scene, tmp_path: Path) -> None:
    scene.adapter("0")
    wrong = scene.settings.model_copy(update={"tracking_uri": f"{scene.settings.tracking_uri}/nowhere"})
    with pytest.raises(Exception, match=r"MLflow at 127\.0\.0\.1 answered"):
        MlflowMirror(wrong, scene.database).mirror()
