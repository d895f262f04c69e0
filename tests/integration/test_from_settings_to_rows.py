"""How `reviewloop` is put together, to be read from top to bottom: settings, wiring, commands.

`reviewloop/settings.py` reads a file and the environment. `reviewloop/wiring/` makes objects of the other
packages from what it read. `reviewloop/cli/` is what people type; each test here types it in its own process.
"""

import json
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from typer.testing import CliRunner

from reviewloop.cli import app
from reviewloop.settings import load_settings, shown_settings
from reviewloop.wiring.registry import load_registered, open_database
from reviewloop.wiring.workers import open_worker
from storage.adapters.registry import AdapterStore
from tests.conftest import TopicFactory

Type = Callable[..., Any]


@pytest.fixture
def typed(
    *, kafka_bootstrap: str, empty_database: str, topic: TopicFactory, tiny_model: Path,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> Type:  # fmt: skip
    """A folder with its settings; what it returns runs a command there, as a person types it."""
    name = topic(2)
    (tmp_path / "reviewloop.toml").write_text(f"""
        [kafka]
        bootstrap_servers = "{kafka_bootstrap}"
        reviews_topic = "{name}"
        labels_topic = "labels-{name}"
        group_id = "of-the-file"
        [classifier]
        base_model = "{tiny_model}"
        [consumer]
        adapter_cache = "{tmp_path / "cache"}"
        """)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REVIEWLOOP_DATABASE__URL", empty_database)  # a secret: not in the file
    monkeypatch.setenv("REVIEWLOOP_KAFKA__GROUP_ID", f"group-{name}")
    return lambda *words: CliRunner().invoke(app, list(map(str, words)))


def test_the_command_line_beats_the_environment_which_beats_the_file(typed: Type) -> None:
    settings = load_settings({"consumer": {"tasks": ("sentiment",)}})
    assert settings.kafka.group_id.startswith("group-")

    shown = {item.name: item for item in shown_settings(settings)}
    assert shown["kafka.group_id"].origin == "environment"
    assert shown["kafka.reviews_topic"].origin == "file reviewloop.toml"
    assert shown["kafka.start"].origin == "default"
    assert "********" in str(shown["database.url"].value)  # the password


def test_a_published_file_becomes_rows_that_people_can_ask_for_and_label(
    typed: Type, tiny_adapters: tuple[Path, Path]
) -> None:
    missing = typed("doctor", "--format", "text")
    assert missing.exit_code == 1
    assert "run 'reviewloop db upgrade'" in missing.stdout

    # The schema, a topic for labels, and an adapter that serves.
    typed("db", "upgrade")
    typed("topics", "create")
    version = typed("adapters", "add", tiny_adapters[0], "--activate").stdout.strip()

    # Reviews go through Kafka; one worker scores them and ends when nothing is left.
    Path("reviews.csv").write_text("id,text\nr-1,It fits.\nr-2,It broke at once.\nr-3,\n")
    published = typed("publish", "reviews.csv")
    assert "Published 2 reviews" in published.stdout
    assert "line 4" in published.stderr  # a row without a text is named and left out
    assert "Stored 2 reviews" in typed("consume", "--until-idle", 0.2).stdout

    # Rows come as JSON lines where no terminal is, each with the adapter that scored it.
    rows = [json.loads(line) for line in typed("query").stdout.splitlines()]
    assert {row["review_id"]: row["adapter_version"] for row in rows} == {"r-1": version, "r-2": version}
    offsets = [json.loads(line) for line in typed("offsets", "show").stdout.splitlines()]
    assert {row["lag"] for row in offsets} == {0}

    # A person's answer stands beside the model's.
    typed("label", "set", "r-2", rows[0]["label"], "--annotator", "ann")
    (answered,) = [json.loads(line) for line in typed("query", "--id", "r-2").stdout.splitlines()]
    assert answered["human_label"] == rows[0]["label"]
    assert typed("doctor", "--format", "jsonl").exit_code == 0


def test_the_wiring_makes_what_the_commands_use(typed: Type, tiny_adapters: tuple[Path, Path]) -> None:
    typed("db", "upgrade")
    version = typed("adapters", "add", tiny_adapters[0], "--activate").stdout.strip()
    Path("reviews.csv").write_text("id,text\nr-1,It fits.\n")
    typed("publish", "reviews.csv")

    settings = load_settings()
    with open_worker(settings, stopping=Event()) as worker:
        assert worker.run(until_idle_seconds=0.2).accepted == 1

    with open_database(settings) as database:
        classifier = load_registered(settings, AdapterStore(database), version)
        (answer,) = classifier.predict(["It fits."])
    assert answer.adapter_version == version
