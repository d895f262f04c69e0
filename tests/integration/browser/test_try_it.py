"""Try it: the active adapter answers in a browser and through the API, and a text becomes a review."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import SecretStr

from classifier.adapters.manifest import describe_adapter, read_files
from classifier.interface import load
from classifier.settings import ClassifierSettings
from console.scorer import AnyClassifier, ConsoleScorer, active_version
from reviews.errors import AdapterError
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.settings import DatabaseSettings
from tests.browser.visits import Visits, accessibility_violations
from tests.integration.browser.conftest import Served, listening
from tests.integration.console.conftest import Site
from tests.integration.in_process import read_topic

PATIENCE_SECONDS = 60.0
TEXT = "Ein größerer Text 😀"


class Adapters:
    """Two registered adapters of a tiny model, and a loader that waits until it may go on."""

    def __init__(self, database: Database, base: Path, directories: tuple[Path, Path]) -> None:
        self.store = AdapterStore(database)
        self._base = base
        self._directories: dict[str, Path] = {}
        self.versions = tuple(self._add(directory) for directory in directories)
        self.may_load = threading.Event()
        self.may_load.set()
        self.error: Exception | None = None

    def _add(self, directory: Path) -> str:
        manifest, files = read_files(directory)
        adapter = describe_adapter(manifest)
        self.store.add(adapter, files)
        self._directories[adapter.version] = directory
        return adapter.version

    def activate(self, number: int) -> str:
        """Let one of them serve."""
        adapter = self.store.find(self.versions[number])
        self.store.activate(
            adapter, expected=self.store.active(adapter.task), decided_by="test", reason="told to"
        )
        return adapter.version

    def load(self, version: str) -> AnyClassifier:
        """A classifier, as the console's wiring makes one."""
        assert self.may_load.wait(PATIENCE_SECONDS)
        if self.error is not None:
            raise self.error
        return load(str(self._base), self._directories[version], ClassifierSettings(device="cpu", threads=1))


@pytest.fixture
def adapters(database: str, tiny_model: Path, tiny_adapters: tuple[Path, Path]) -> Iterator[Adapters]:
    """The registry of this test."""
    with closing(Database(DatabaseSettings(url=SecretStr(database)))) as opened:
        yield Adapters(opened, tiny_model, tiny_adapters)


@pytest.fixture
def scoring(make_site: Callable[..., Site], adapters: Adapters, topic: Callable[..., str]) -> Site:
    """A console that can score."""
    scorer = ConsoleScorer(active_version(adapters.store), adapters.load)
    return make_site(scorer=scorer, reviews_topic=topic())


def _until_ready(site: Site, version: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    scorer = site.parts.scorer
    assert scorer is not None
    while (state := scorer.state("sentiment")).is_loading and time.monotonic() < deadline:
        time.sleep(0.05)
    assert state.classifier is not None
    assert state.classifier.adapter_version == version


def test_a_text_is_scored_as_the_adapter_scores_it_and_can_be_published(
    scoring: Site, adapters: Adapters, visits: Visits
) -> None:
    version = adapters.activate(0)
    adapters.may_load.clear()
    with listening(scoring) as url:
        page = Served(scoring, url, visits).page("operator")
        page.goto("/try")
        page.get_by_text("Loading the adapter").wait_for()
        adapters.may_load.set()
        page.get_by_text(f"Answers come from {version}").wait_for()  # by itself
        page.get_by_label("Text of a review").fill(TEXT)
        page.get_by_role("button", name="Classify").click()
        page.get_by_text("What the model read").wait_for()
        (said,) = adapters.load(version).predict([TEXT])
        assert page.locator("#answer").inner_text().startswith(said.label)
        meters = page.locator("meter").all()
        shown = sorted(float(meter.get_attribute("value") or 0) for meter in meters)
        assert shown == pytest.approx(sorted(said.probabilities), abs=1e-4)
        tokens = page.locator(".tokens span").all_inner_texts()
        assert (tokens[0], tokens[-1]) == ("<s>", "</s>")
        assert accessibility_violations(page) == []

        page.get_by_label("Product, if any").fill("kettle")
        page.get_by_role("button", name="Publish").click()
        page.get_by_text("Published as console-").wait_for()
    (record,) = read_topic(str(scoring.parts.kafka.bootstrap_servers), scoring.parts.kafka.reviews_topic, 1)
    assert TEXT in record.value.decode()
    assert b'"product": "kettle"' in record.value
    assert record.key.startswith(b"console-")


def test_a_promoted_adapter_answers_as_soon_as_it_is_loaded_and_the_old_one_until_then(
    scoring: Site, adapters: Adapters
) -> None:
    first = adapters.activate(0)
    _until_ready(scoring, first)
    client = scoring.program("viewer")
    asked = {"texts": ["abc", TEXT]}
    assert client.post("/api/v1/predict", json=asked).json()["adapter_version"] == first

    adapters.may_load.clear()
    second = adapters.activate(1)
    assert client.post("/api/v1/predict", json=asked).json()["adapter_version"] == first
    adapters.may_load.set()
    _until_ready(scoring, second)
    answer = client.post("/api/v1/predict", json=asked).json()
    assert answer["adapter_version"] == second
    said = adapters.load(second).predict(asked["texts"])
    assert [one["label"] for one in answer["predictions"]] == [one.label for one in said]
    assert [sum(one["probabilities"].values()) for one in answer["predictions"]] == pytest.approx([1, 1])


def test_what_cannot_be_answered_is_said_with_what_to_do(scoring: Site, adapters: Adapters) -> None:
    client = scoring.program("viewer")

    def ask(**body: object) -> tuple[int, str]:
        answer = client.post("/api/v1/predict", json=body)
        return answer.status_code, answer.json()["detail"]

    assert ask(texts=["a"]) == (422, "No adapter is active for the task 'sentiment': activate one first.")
    adapters.error = AdapterError("its files are damaged")
    version = adapters.activate(0)
    assert ask(texts=["a"])[0] == 503
    deadline = time.monotonic() + PATIENCE_SECONDS
    while "is being loaded" in (found := ask(texts=["a"]))[1] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found == (503, f"The adapter {version} cannot be loaded: its files are damaged")
    assert ask(texts=[])[0] == 422
    assert ask(texts=["a"] * 33)[0] == 422
    assert ask(texts=["a" * 9_999] * 11)[0] == 422
    assert ask(texts=["a"], task="another")[0] == 422


def test_a_console_that_may_not_load_a_model_says_so(site: Site) -> None:
    assert "switched off" in site.client("viewer").get("/try").text
    answer = site.program("viewer").post("/api/v1/predict", json={"texts": ["a"]})
    assert (answer.status_code, "console.try_it" in answer.json()["detail"]) == (422, True)
