"""Labels by their topic: each ends as one answer, whatever order and whatever end of the process."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic
from sqlalchemy import text

from reviewloop.settings import load_settings
from reviewloop.wiring.label_reader import open_label_reader
from tests import commands
from tests.conftest import TopicFactory
from tests.integration.in_process import InProcess, Stream
from tests.integration.system import System, make_environment

Run = Callable[..., str]
TakeIn = Callable[..., tuple[int, int]]

PATIENCE_SECONDS = 60


def _review(number: int, text: str = "Good.", day: int = 1) -> bytes:
    moment = f"2026-03-{day:02}T00:00:00Z"
    return json.dumps({"id": f"r{number}", "text": text, "published_at": moment}).encode()


def _label(review_id: str, label: Any = "positive", day: int = 2, **fields: Any) -> bytes:
    moment = f"2026-03-{day:02}T00:00:00Z"
    message = {"review_id": review_id, "label": label, "annotator": "ann", "labelled_at": moment, **fields}
    return json.dumps(message).encode()


def _publish(stream: InProcess, topic: str, values: Sequence[bytes | None], partitions: int = 1) -> None:
    producer = KafkaProducer(bootstrap_servers=stream.kafka.bootstrap_servers, acks="all", linger_ms=20)
    try:
        for number, value in enumerate(values):
            producer.send(topic, value, key=b"k", partition=number % partitions)
        producer.flush()
    finally:
        producer.close()


@pytest.fixture
def labels_topic(topic: TopicFactory) -> str:
    return topic(1, prefix="labels")


@pytest.fixture
def take_in(labels_topic: str, monkeypatch: pytest.MonkeyPatch) -> TakeIn:
    """Takes in what is published; how many labels and dead letters it stored."""

    def take_in(stream: InProcess, name: str = labels_topic) -> tuple[int, int]:
        for variable, value in stream.environment().items():
            monkeypatch.setenv(variable, value)
        settings = load_settings({"kafka": {"labels_topic": name}})
        with open_label_reader(settings, threading.Event(), 0.5, is_alone=True) as reader:
            reader.wait()
        return reader.totals.accepted, reader.totals.dead_letters

    return take_in


def test_labels_before_and_after_their_reviews_become_one_answer_each(
    stream: Stream, labels_topic: str, take_in: TakeIn
):
    made = stream()
    made.publish([_review(1), _review(2)])
    made.consume()
    labels = [_label("r1"), _label("r2", 0), _label("r3", "unsure"), _label("r4", None), _label("r1", day=3)]
    _publish(made, labels_topic, labels)
    assert take_in(made) == (5, 0)
    assert made.sql("SELECT count(*) FROM waiting_label") == [(2,)]
    made.publish([_review(3)])
    made.consume()
    assert take_in(made) == (0, 0)
    query = """
        SELECT r.review_id, l.label, l.source, l.origin & 1099511627775
          FROM label l JOIN review r USING (record) ORDER BY 4"""
    assert made.sql(query) == [
        ("r1", "positive", "topic", 0),
        ("r2", "negative", "topic", 1),
        ("r3", None, "topic", 2),
        ("r1", "positive", "topic", 4),
    ]
    assert made.sql("SELECT review_id FROM waiting_label") == [("r4",)]


def test_a_label_of_a_time_to_come_beats_no_correction_and_one_without_a_time_has_kafkas(
    stream: Stream, labels_topic: str, take_in: TakeIn
):
    made = stream()
    made.publish([_review(1)])
    made.consume()
    to_come = _label("r1", "negative", labelled_at="2106-02-07T06:28:15Z")
    correction = _label("r1", "positive", labelled_at=None)
    _publish(made, labels_topic, [to_come, correction])
    assert take_in(made) == (1, 1)
    assert made.sql("SELECT error, raw FROM dead_letters") == [("labelled_in_future", to_come)]
    assert made.sql("SELECT human_label FROM scored_reviews") == [("positive",)]
    told = "SELECT labelled_at BETWEEN received_at - interval '1 hour' AND received_at FROM label"
    assert made.sql(told) == [(True,)]


def test_a_label_that_is_too_long_is_a_dead_letter_of_its_beginning_and_the_others_land(
    stream: Stream, labels_topic: str, take_in: TakeIn, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("REVIEWLOOP_CONSUMER__MAX_MESSAGE_BYTES", "100000")
    made = stream()
    long = _label("r1", note="long " * 30_000)
    _publish(made, labels_topic, [_label("r1"), long, _label("r2")])
    assert take_in(made) == (2, 1)
    query = "SELECT stage, error, raw, raw_full_bytes FROM dead_letters"
    assert made.sql(query) == [("label", "too_long", long[:65_536], len(long))]


def test_what_is_no_label_becomes_a_dead_letter_with_its_reason_and_the_others_land(
    stream: Stream, labels_topic: str, take_in: TakeIn, run: Run
):
    made = stream()
    made.publish([_review(1)])
    made.consume()
    bad = [b"no json", None, _label("r1", "lovely"), _label("r1", 2), _label("r1", True), _label("")]
    _publish(made, labels_topic, [*bad, _label("r1"), _label("r1", "toxic", task="toxicity")])
    assert take_in(made) == (2, 6)
    letters = made.sql("SELECT error, message FROM dead_letters WHERE stage = 'label' ORDER BY kafka_offset")
    assert [error for error, _ in letters] == [
        "not_json", "tombstone", "unknown_label", "unknown_label", "bad_label", "bad_review_id",
    ]  # fmt: skip
    assert "negative (0), positive (1), or unsure" in letters[2][1]
    assert made.sql("SELECT task, label FROM label ORDER BY task") == [
        ("sentiment", "positive"),
        ("toxicity", "toxic"),  # without an adapter, a task has no list of labels yet
    ]
    listed = run(made, "dead-letters", "list", "--error", "unknown_label", "--format", "jsonl")
    place = json.loads(listed.splitlines()[-1])["place"]
    run(made, "dead-letters", "replay", place, "--value-file", "-", input_bytes=_label("r1", "negative", 4))
    assert take_in(made) == (1, 0)
    assert made.sql("SELECT error FROM dead_letters WHERE state = 'replayed'") == [("unknown_label",)]
    assert made.sql("SELECT human_label FROM scored_reviews") == [("negative",)]


def test_a_label_that_the_database_refuses_becomes_a_dead_letter_and_the_others_land(
    stream: Stream, labels_topic: str, take_in: TakeIn
):
    made = stream()
    with made.database.begin() as connection:
        connection.execute(text("ALTER TABLE waiting_label ALTER annotator TYPE varchar(100)"))
    long = _label("r2", annotator="a" * 101)
    _publish(made, labels_topic, [_label("r1"), long, _label("r3")])
    assert take_in(made) == (2, 1)
    assert made.sql("SELECT stage, error, raw FROM dead_letter") == [
        ("store", "string_data_right_truncation", long)
    ]


def test_killed_again_and_again_the_reader_stores_each_label_once(
    stream: Stream, topic: TopicFactory, tmp_path: Path
):
    made = stream()
    made.publish([_review(number) for number in range(20)])
    made.consume()
    name = topic(3, prefix="labels")
    count = 3_000
    labels = [_label(f"r{number % 40}", annotator=f"a{number}") for number in range(count)]
    _publish(made, name, labels, partitions=3)
    environment = make_environment(
        **made.environment(),
        REVIEWLOOP_CONSUMER__MAX_BATCH_REVIEWS="10",
        REVIEWLOOP_KAFKA__SESSION_TIMEOUT_MS="6000",
    )
    command = ("label", "consume", "--topic", name)
    stored = 0
    for _ in range(2):
        process = commands.start(*command, env=environment, cwd=tmp_path)
        stored = _wait_for_more(made, stored + 100, process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert stored < count, "it was killed too late to show anything"
    done = commands.run(*command, "--until-idle", 0.2, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert made.sql("SELECT count(*), count(DISTINCT annotator) FROM label") == [(count // 2, count // 2)]
    waiting = made.sql("SELECT count(*), count(DISTINCT annotator) FROM waiting_label")
    assert waiting == [(count // 2, count // 2)]


def _wait_for_more(made: InProcess, wanted: int, process: commands.Running) -> int:
    """How many labels are stored, as soon as there are so many."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        query = "SELECT (SELECT count(*) FROM label) + (SELECT count(*) FROM waiting_label)"
        ((stored,),) = made.sql(query)
        if stored >= wanted:
            return int(stored)
        assert process.poll() is None
        assert time.monotonic() < deadline, "the reader does not get on"


def test_the_worker_takes_labels_in_beside_the_reviews(
    system: Callable[..., System], tiny_adapters: tuple[Path, Path], kafka_admin: KafkaAdminClient
):
    made = system(partitions=1)
    made.run("adapters", "add", tiny_adapters[0], "--activate")
    made.publish([json.loads(_review(1)), json.loads(_review(2))])
    name = made.environment["REVIEWLOOP_KAFKA__LABELS_TOPIC"]
    kafka_admin.create_topics([NewTopic(name, 1, 1)])
    try:
        labels = [json.loads(_label("r1", 0)), json.loads(_label("r3", 0)), b"{"]
        System(made.environment, name, made.folder).publish(labels)
        made.publish([json.loads(_review(3)), json.loads(_review(2, "Better.", day=5))])
        printed = made.run("consume", "--until-idle", 0.2)
        assert printed.endswith("Stored 2 labels and 1 dead letters of labels.\n")
        assert made.sql("SELECT review_id FROM scored_reviews WHERE human_label IS NOT NULL ORDER BY 1") == [
            ("r1",),
            ("r3",),
        ]
        assert made.sql("SELECT count(*) FROM waiting_label") == [(0,)]
    finally:
        kafka_admin.delete_topics([name])
