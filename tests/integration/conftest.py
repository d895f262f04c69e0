"""A whole system for one test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from reviewloop.cli import app
from tests.conftest import TopicFactory
from tests.integration.in_process import InProcess, Stream, open_in_process
from tests.integration.system import System, make_environment
from tests.tiny import tiny_adapter, tiny_base


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random base model."""
    return tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def tiny_adapters(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two different adapters of the tiny model."""
    root = tmp_path_factory.mktemp("adapters")
    return tiny_adapter(tiny_model, root, seed=1), tiny_adapter(tiny_model, root, seed=2)


@pytest.fixture
def system(
    kafka_bootstrap: str, database: str, topic: TopicFactory, tiny_model: Path, tmp_path: Path
) -> Callable[..., System]:
    """Makes a migrated system with a topic of its own."""

    def make(partitions: int = 4, **settings: str) -> System:
        name = topic(partitions)
        usual = {
            "REVIEWLOOP_KAFKA__BOOTSTRAP_SERVERS": kafka_bootstrap,
            "REVIEWLOOP_KAFKA__REVIEWS_TOPIC": name,
            "REVIEWLOOP_KAFKA__LABELS_TOPIC": f"labels-{name}",
            "REVIEWLOOP_KAFKA__GROUP_ID": f"group-{name}",
            "REVIEWLOOP_DATABASE__URL": database,
            "REVIEWLOOP_CLASSIFIER__BASE_MODEL": str(tiny_model),
            "REVIEWLOOP_CLASSIFIER__THREADS": "1",
            "REVIEWLOOP_CONSUMER__ADAPTER_CACHE": str(tmp_path / "cache"),
            "REVIEWLOOP_CONSUMER__ADAPTER_POLL_SECONDS": "0.2",
        }
        environment = make_environment(**{**usual, **settings})
        return System(environment, name, tmp_path)

    return make


@pytest.fixture
def stream(kafka_bootstrap: str, database: str, topic: TopicFactory) -> Iterator[Stream]:
    """Makes a topic with workers in this process, whose classifier needs no model."""
    with ExitStack() as stack:

        def make(partitions: int = 1, configs: dict[str, str] | None = None) -> InProcess:
            name = topic(partitions, configs=configs)
            return stack.enter_context(open_in_process(kafka_bootstrap, database, name))

        yield make


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs a command with the settings of a stream; its output, or the error it ends with.

    With ``whole`` the result comes as it is, standard error included.
    """

    def run(
        stream: InProcess, *arguments: object, input_bytes: bytes | None = None, whole: bool = False
    ) -> Any:
        for name, value in stream.environment().items():
            monkeypatch.setenv(name, value)
        result = CliRunner().invoke(app, list(map(str, arguments)), input=input_bytes)
        if result.exception is not None:
            raise result.exception
        return result if whole else result.stdout

    return run
