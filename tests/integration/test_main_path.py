"""The main job, with the real commands: what is published comes out as labelled rows, each exactly once."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.commands import Running
from tests.integration.system import System
from tests.tiny import tiny_adapter

Make = Callable[..., System]
Adapters = tuple[Path, Path]

_COUNT = "SELECT count(*) FROM prediction"


def _reviews(number: int, prefix: str = "r") -> list[dict[str, object]]:
    return [
        {"id": f"{prefix}{index}", "text": f"review number {index} " + "so good " * (index % 20), "stars": 4}
        for index in range(number)
    ]


def _wait(system: System, query: str, wanted: int, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if system.sql(query)[0][0] >= wanted:
            return
        time.sleep(0.2)
    raise AssertionError(f"{query} stayed below {wanted}: {(system.folder / 'worker.log').read_text()}")


def _stop(worker: Running, log: Path) -> None:
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=180) == 0, log.read_text()


def test_two_workers_turn_2000_published_reviews_into_one_row_each(
    system: Make, tiny_adapters: Adapters
) -> None:
    made = system()
    version = made.run("adapters", "add", tiny_adapters[0], "--activate").strip()
    reviews = _reviews(2000)
    places = made.publish(reviews)

    made.run("consume", "--workers", 2, "--until-idle", 0.2)

    rows = made.sql(
        "SELECT review_id, text, kafka_topic, kafka_partition, kafka_offset, adapter_version, label, "
        "confidence, probabilities FROM scored_reviews"
    )
    expected = {
        review["id"]: (review["text"], made.topic, *place)
        for review, place in zip(reviews, places, strict=True)
    }
    assert {row[0]: row[1:5] for row in rows} == expected
    assert len(rows) == 2000
    for row in rows:
        assert row[5] == version
        assert row[6] in {"negative", "neutral", "positive"}
        assert sum(row[8]) == pytest.approx(1, abs=1e-5)
        assert row[7] == max(row[8])

    made.run("consume", "--until-idle", 0.2)
    assert made.sql(_COUNT) == [(2000,)]
    assert made.sql("SELECT count(*) FROM review") == [(2000,)]
    # Kafka's own offsets follow, for lag tools.
    assert made.sql("SELECT sum(next_offset) FROM stream_partition") == [(2000,)]


def test_an_invalid_message_is_a_dead_letter_with_its_reason_and_raw_bytes(
    system: Make, tiny_adapters: Adapters
) -> None:
    made = system(partitions=1)
    made.run("adapters", "add", tiny_adapters[0], "--activate")
    made.publish([{"id": "good", "text": "good"}, b'{"id": "bad"', {"id": "worse", "text": "x", "stars": 9}])

    made.run("consume", "--until-idle", 0.2)

    assert made.sql("SELECT review_id, kafka_offset FROM scored_reviews") == [("good", 0)]
    letters = made.sql("SELECT kafka_offset, stage, error, raw FROM dead_letters ORDER BY kafka_offset")
    assert letters[0][:3] == (1, "parse", "not_json")
    assert bytes(letters[0][3]) == b'{"id": "bad"'
    assert letters[1][:3] == (2, "parse", "bad_stars")
    assert "not_json" in made.run("dead-letters", "list", "--format", "jsonl")


def test_an_adapter_activated_meanwhile_names_itself_on_later_rows_without_a_restart(
    system: Make, tiny_adapters: Adapters
) -> None:
    made = system(partitions=2)
    first = made.run("adapters", "add", tiny_adapters[0], "--activate").strip()
    second = made.run("adapters", "add", tiny_adapters[1]).strip()
    made.publish(_reviews(50, "early"))
    worker = made.start("consume")
    try:
        _wait(made, _COUNT, 50)
        made.run("adapters", "promote", second)
        _wait_for_log(made, "adapter_swapped")
        made.publish(_reviews(50, "late"))
        _wait(made, _COUNT, 100)
        _stop(worker, made.folder / "worker.log")
    finally:
        worker.kill()
        worker.wait()

    by_version = made.sql(
        "SELECT adapter_version, left(review_id, 4), count(*) FROM scored_reviews GROUP BY 1, 2 ORDER BY 2"
    )
    assert by_version == [(first, "earl", 50), (second, "late", 50)]


def test_a_worker_with_an_empty_cache_gets_the_adapters_files_from_the_database(
    system: Make, tiny_adapters: Adapters, tmp_path: Path
) -> None:
    made = system(partitions=1)
    made.run("adapters", "add", tiny_adapters[0], "--activate")
    made.publish(_reviews(10))
    other = System(
        {**made.environment, "REVIEWLOOP_CONSUMER__ADAPTER_CACHE": str(tmp_path / "b")}, made.topic, tmp_path
    )

    other.run("consume", "--until-idle", 0.2)

    copies = list((tmp_path / "b").rglob("adapter_model.safetensors"))
    assert [path.read_bytes() for path in copies] == [
        (tiny_adapters[0] / "adapter_model.safetensors").read_bytes()
    ]
    assert made.sql(_COUNT) == [(10,)]


def test_the_second_of_two_workers_is_named_and_started_again_when_it_is_killed(
    system: Make, tiny_adapters: Adapters
) -> None:
    made = system(
        partitions=2,
        REVIEWLOOP_KAFKA__SESSION_TIMEOUT_MS="6000",
        REVIEWLOOP_KAFKA__HEARTBEAT_INTERVAL_MS="1000",
    )
    made.run("adapters", "add", tiny_adapters[0], "--activate")
    workers = made.start("consume", "--workers", 2)
    try:
        second = _entries(made, "partitions_positioned", lambda entry: entry.get("worker") == "2", wanted=1)
        assert second[0]["topic"] == made.topic
        loaded = _entries(made, "classifier_loaded", lambda entry: entry.get("worker") == "2", wanted=1)
        assert (loaded[0]["engine"], loaded[0]["device"]) == ("packed", "cpu")
        assert "texts of 32 tokens a second and core" in loaded[0]["format_reason"]
        started = _entries(made, "process_started", lambda entry: entry["process"] == "worker 2", wanted=1)
        os.kill(started[0]["pid"], signal.SIGKILL)
        (died,) = _entries(made, "process_died", lambda _: True, wanted=1)
        assert (died["process"], died["cause"][:7]) == ("worker 2", "SIGKILL")
        _entries(made, "process_started", lambda entry: entry["process"] == "worker 2", wanted=2)
        made.publish(_reviews(40))
        _wait(made, _COUNT, 40)
        _stop(workers, made.folder / "worker.log")
    finally:
        workers.terminate()
        workers.wait()


def test_sigterm_drains_what_is_in_hand_and_the_next_worker_goes_on_from_there(
    system: Make, tiny_adapters: Adapters
) -> None:
    made = system(partitions=3)
    made.run("adapters", "add", tiny_adapters[0], "--activate")
    worker = made.start("consume")
    try:
        made.publish(_reviews(3000))
        _wait(made, _COUNT, 1)
        _stop(worker, made.folder / "worker.log")
    finally:
        worker.kill()
        worker.wait()

    made.run("consume", "--until-idle", 0.2)
    assert made.sql("SELECT count(*), count(DISTINCT record) FROM review") == [(3000, 3000)]
    assert made.sql(_COUNT) == [(3000,)]


def test_a_new_topic_begins_at_its_end_when_the_setting_says_latest(
    system: Make, tiny_adapters: Adapters
) -> None:
    made = system(partitions=1, REVIEWLOOP_KAFKA__START="latest")
    made.run("adapters", "add", tiny_adapters[0], "--activate")
    made.publish(_reviews(5, "before"))
    made.run("consume", "--until-idle", 0.2)
    made.publish(_reviews(5, "after"))
    made.run("consume", "--until-idle", 0.2)
    assert {row[0][:5] for row in made.sql("SELECT review_id FROM scored_reviews")} == {"after"}


def test_a_published_id_is_replaced_by_its_newer_version_and_history_stays(
    system: Make, tiny_adapters: Adapters
) -> None:
    made = system(partitions=2)
    made.run("adapters", "add", tiny_adapters[0], "--activate")
    newer = {"id": "a", "text": "newer", "published_at": "2026-02-01T00:00:00Z"}
    made.publish([newer, {**newer, "text": "older", "published_at": "2026-01-01T00:00:00"}])
    made.run("consume", "--until-idle", 0.2)
    assert made.sql("SELECT text FROM scored_reviews") == [("newer",)]
    assert made.sql("SELECT count(*) FROM review") == [(2,)]


def test_every_configured_task_is_a_row_of_each_review(
    system: Make, tiny_model: Path, tiny_adapters: Adapters, tmp_path: Path
) -> None:
    made = system(partitions=1, REVIEWLOOP_CONSUMER__TASKS='["sentiment", "tone"]')
    tone = tiny_adapter(tiny_model, tmp_path / "tone", labels=("calm", "angry"), task="tone", seed=3)
    sentiment_version = made.run("adapters", "add", tiny_adapters[0], "--activate").strip()
    tone_version = made.run("adapters", "add", tone, "--activate").strip()
    made.publish(_reviews(20))
    made.run("consume", "--until-idle", 0.2)
    rows = made.sql("SELECT task, adapter_version, count(*) FROM scored_reviews GROUP BY 1, 2 ORDER BY 1")
    assert rows == [("sentiment", sentiment_version, 20), ("tone", tone_version, 20)]
    assert made.sql("SELECT DISTINCT cardinality(probabilities) FROM scored_reviews WHERE task = 'tone'") == [
        (2,)
    ]


def test_consume_without_an_active_adapter_is_wrong_use_and_says_what_to_do(system: Make) -> None:
    made = system(partitions=1)
    assert "adapters add DIR --activate" in made.run("consume", code=2)


def _entries(
    system: System, event: str, is_meant: Callable[[dict[str, Any]], bool], wanted: int, seconds: float = 240
) -> list[dict[str, Any]]:
    """The log's entries of that name, as soon as there are so many."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        lines = (system.folder / "worker.log").read_text().splitlines()
        entries = [json.loads(line) for line in lines if line.startswith("{")]
        found = [entry for entry in entries if entry["event"] == event and is_meant(entry)]
        if len(found) >= wanted:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{wanted} {event} expected: {(system.folder / 'worker.log').read_text()}")


def _wait_for_log(system: System, event: str, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if event in (system.folder / "worker.log").read_text():
            return
        time.sleep(0.1)
    raise AssertionError(f"No {event}: {(system.folder / 'worker.log').read_text()}")
