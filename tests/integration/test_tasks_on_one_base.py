"""Several tasks on one base: a worker has the base, the tokenised texts and the adapters' files once."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import classifier.engine.build
from classifier.adapters.manifest import describe_adapter, read_files
from classifier.tokenise import Tokeniser
from consumer.measures import Measures
from reviewloop.settings import Settings
from reviewloop.wiring.registry import open_database
from reviewloop.wiring.workers import open_worker
from storage.adapters.registry import AdapterStore
from storage.adapters.shadows import ShadowStore
from storage.migrate import upgrade
from tests.integration.system import System
from tests.tiny import tiny_adapter, with_probes

TASKS = {"sentiment": ("bad", "good"), "tone": ("rude", "polite"), "topic": ("a", "b", "c")}
REVIEWS = 40


def _wait(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the base was loaded, each text tokenised, and the files of an adapter fetched."""
    counts: Counter[str] = Counter()

    def count(owner: object, name: str, keys: Callable[..., list[str]]) -> None:
        real = getattr(owner, name)

        def wrapped(*arguments):
            counts.update(keys(*arguments))
            return real(*arguments)

        monkeypatch.setattr(owner, name, wrapped)

    count(classifier.engine.build, "load_base", lambda *_: ["base"])
    count(Tokeniser, "encode", lambda _, texts: [f"text {text}" for text in texts])
    count(AdapterStore, "files", lambda _, version: [f"files {version}"])
    return counts


def test_three_tasks_and_a_trial_share_base_and_tokenised_texts_and_an_exchange_loads_neither_again(
    system: Callable[..., System], tiny_model: Path, tmp_path: Path, counted: Counter[str]
) -> None:
    made = system(partitions=1)
    directories = {
        task: with_probes(tiny_model, tiny_adapter(tiny_model, tmp_path, labels=labels, task=task))
        for task, labels in TASKS.items()
    }
    trial = with_probes(tiny_model, tiny_adapter(tiny_model, tmp_path, labels=("bad", "good"), seed=8))
    settings = Settings(
        kafka={"bootstrap_servers": made.bootstrap_servers, "reviews_topic": made.topic},
        database={"url": made.environment["REVIEWLOOP_DATABASE__URL"]},
        classifier={
            "base_model": str(tiny_model),
            "device": "cpu",
            "precision": "fp32",
            "adapters": "shared",
        },
        consumer={
            "tasks": tuple(TASKS),
            "adapter_cache": str(tmp_path / "cache"),
            "adapter_poll_seconds": 0.1,
        },
    )
    stopping, measures = threading.Event(), Measures()
    with open_database(settings) as database:
        upgrade(database)
        store = AdapterStore(database)
        for directory in (*directories.values(), trial):
            manifest, files = read_files(directory)
            store.add(describe_adapter(manifest), files)
        versions = {adapter.version: adapter for adapter in store.list_versions()}
        names = {task: f"{task}-{directory.name[:12]}" for task, directory in directories.items()}
        candidate = versions[f"sentiment-{trial.name[:12]}"]
        for name in names.values():
            store.activate(versions[name], expected=None, decided_by="test", reason="test")
        ShadowStore(database).start(candidate, 1.0, "test")
        counted.clear()
        with open_worker(settings, stopping, measures=measures) as worker:
            thread = threading.Thread(target=worker.run)
            thread.start()
            try:
                _wait(lambda: measures.shadows == {"sentiment": candidate.version})
                made.publish([{"id": f"r{n}", "text": f"a{n}"} for n in range(REVIEWS)])
                _wait(lambda: made.sql("SELECT count(*) FROM review") == [(REVIEWS,)])
                store.activate(
                    candidate, expected=store.active("sentiment"), decided_by="test", reason="test"
                )
                _wait(lambda: measures.adapters["sentiment"] == candidate.version)
                made.publish([{"id": f"s{n}", "text": f"b{n}"} for n in range(REVIEWS)])
                _wait(lambda: made.sql("SELECT count(*) FROM review") == [(2 * REVIEWS,)])
            finally:
                stopping.set()
                thread.join(60)

    assert counted["base"] == 1
    texts = {f"text {kind}{number}" for kind in "ab" for number in range(REVIEWS)}
    assert {name: counted[name] for name in texts} == dict.fromkeys(texts, 1)
    fetched = {name: number for name, number in counted.items() if name.startswith("files")}
    assert fetched == {f"files {name}": 1 for name in (*names.values(), candidate.version)}
    scored = made.sql("SELECT task, adapter_version, count(*) FROM scored_reviews GROUP BY 1, 2")
    assert sorted(scored) == sorted(
        [
            ("sentiment", names["sentiment"], REVIEWS),
            ("sentiment", candidate.version, REVIEWS),
            ("tone", names["tone"], 2 * REVIEWS),
            ("topic", names["topic"], 2 * REVIEWS),
        ]
    )
    assert made.sql("SELECT count(*) FROM prediction_history WHERE reason = 'shadow'") == [(REVIEWS,)]
