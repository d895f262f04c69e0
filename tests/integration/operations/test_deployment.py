"""The commands of docker-compose.yml, run natively in the order that the file asks for."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from psycopg import sql
from sqlalchemy import make_url

from reviewloop.local.places import free_port
from tests.conftest import TopicFactory
from tests.integration.system import System, make_environment

COMPOSE = Path(__file__).parents[3] / "docker-compose.yml"
SECONDS = 120


class Deployment:
    """The services of the compose file as native processes, each with its own secrets and environment."""

    def __init__(self, folder: Path, addresses: dict[str, str], replaced: dict[str, str]) -> None:
        self.services: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
        self.folder = folder
        self._addresses = addresses
        self._replaced = replaced

    def system(self, name: str) -> System:
        """A machine set up like the container of this service."""
        service, secrets = self.services[name], self.folder / "run" / name
        secrets.mkdir(parents=True, exist_ok=True)
        for item in service.get("secrets", ()):
            source, target = (item, item) if isinstance(item, str) else (item["source"], item["target"])
            shutil.copy(self.folder / source, secrets / target)
        given = {key: self._native(str(value), name) for key, value in service["environment"].items()}
        return System(make_environment(**given, **self._addresses), "reviews", self.folder)

    def command(self, name: str) -> list[str]:
        return [self._native(str(word), name) for word in self.services[name]["command"]]

    def _native(self, value: str, name: str) -> str:
        for container, native in {**self._replaced, "/run/secrets": str(self.folder / "run" / name)}.items():
            value = value.replace(container, native)
        return value


@pytest.fixture
def deployment(
    kafka_bootstrap: str, database: str, topic: TopicFactory, tiny_model: Path, tmp_path: Path
) -> Iterator[Deployment]:
    url = make_url(database)
    for name in ("owner", "writer", "trainer", "console", "reader"):
        (tmp_path / f"{name}_password").write_text(f"{name} secret\n")
    (tmp_path / "owner_password").write_text(f"{url.password}\n")
    reviews = f"{topic(1)}-made-by-the-file"
    suffix = str(url.database)
    replaced = {
        "kafka:9092": kafka_bootstrap,
        "postgresql://reviewloop@postgres:5432/reviewloop": f"postgresql://{url.username}@{url.host}:{url.port}/{suffix}",
        "@postgres:5432/reviewloop": f"@{url.host}:{url.port}/{suffix}",
        "reviewloop_writer": f"writer_{suffix}",
        "reviewloop_trainer": f"trainer_{suffix}",
        "reviewloop_console": f"console_{suffix}",
        "reviewloop_reader": f"reader_{suffix}",
        "9464": str(free_port()),
        "0.0.0.0": "127.0.0.1",  # noqa: S104  the file's, inside a container
    }
    addresses = {
        "REVIEWLOOP_KAFKA__REVIEWS_TOPIC": reviews,
        "REVIEWLOOP_KAFKA__LABELS_TOPIC": f"{reviews}-labels",
        "REVIEWLOOP_CLASSIFIER__BASE_MODEL": str(tiny_model),
        "REVIEWLOOP_CONSUMER__ADAPTER_CACHE": str(tmp_path / "cache"),
    }
    yield Deployment(tmp_path, addresses, replaced)
    with psycopg.connect(url.set(drivername="postgresql").render_as_string(hide_password=False)) as admin:
        for role in (f"{name}_{suffix}" for name in ("writer", "trainer", "console", "reader")):
            admin.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def test_the_files_commands_bring_a_review_from_the_topic_to_the_readers_view(
    deployment: Deployment, tiny_adapters: tuple[Path, Path]
):
    for job in ("migrate", "roles", "topics"):
        deployment.system(job).run(*deployment.command(job))
    admin = deployment.system("admin")
    admin.run("adapters", "add", tiny_adapters[0], "--activate")
    admin.run(*deployment.command("admin"))  # the doctor is content
    consumer = deployment.system("consumer")
    consumer.run("doctor")
    worker = consumer.start(*deployment.command("consumer"))
    try:
        (deployment.folder / "reviews.jsonl").write_text('{"id": "one", "text": "it works"}\n')
        admin.run("publish", "reviews.jsonl")
        _wait(lambda: "one" in admin.run("query", "--format", "jsonl"), deployment)
        _wait(lambda: _is_healthy(deployment), deployment)
    finally:
        worker.terminate()
        assert worker.wait(60) == 0
    # A second `up` runs the jobs again.
    for job in ("migrate", "roles", "topics"):
        deployment.system(job).run(*deployment.command(job))


def _is_healthy(deployment: Deployment) -> bool:
    program, *arguments = deployment.services["consumer"]["healthcheck"]["test"][1:]
    assert program == "python"
    native = [deployment._native(word, "consumer") for word in arguments]
    return subprocess.run([sys.executable, *native], capture_output=True, check=False).returncode == 0


def _wait(what: Callable[[], bool], deployment: Deployment) -> None:
    deadline = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < deadline, (deployment.folder / "worker.log").read_text()
        time.sleep(0.2)
