"""Sinks on the real broker and database: what is stored arrives, in order, and again when it changes."""

import json
import random
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient
from kafka.admin import NewTopic

from broker.formats.avro_rows import AvroRowFormat
from broker.formats.decoding import RecordFormat, open_decoder
from broker.formats.registry import SchemaRegistry
from broker.formats.settings import RegistrySettings
from broker.ordered_publisher import OrderedPublisher
from broker.settings import KafkaSettings
from consumer.sinks import JsonFormat, SinkForwarder, SinkMeasures, cloud_event
from reviewloop.local.places import free_port
from reviews.errors import ReviewLoopError, Unavailable, WrongUse
from reviews.record_id import record_id
from reviews.scored_row import ScoredRow
from storage.stream.sink_rows import MAX_ROWS
from storage.stream.sinks import SinkStore, mark_erased, unpublished_from
from tests.conftest import TopicFactory
from tests.sink_scene import IDS, VERSIONS, SinkScene

LABELS_TOPIC = "review-labels"
Make = Callable[..., SinkScene]


@pytest.fixture
def scene(kafka_bootstrap: str, database: str, topic: TopicFactory) -> Iterator[Make]:
    """Makes a database with reviews and the topic of a sink."""
    with ExitStack() as stack:

        def make(partitions: int = 2, **configs: str) -> SinkScene:
            made = SinkScene(kafka_bootstrap, database, topic(3, configs=configs or None), partitions)
            stack.callback(made.close)
            return made

        yield make


def _store(scene: SinkScene, **options: Any) -> SinkStore:
    return SinkStore(scene.database, scene.topic, LABELS_TOPIC, options.pop("start", "earliest"))


def _forwarder(scene: SinkScene, *, with_events: bool = False, **options: Any) -> SinkForwarder:
    row_format = options.pop("row_format", JsonFormat())
    return SinkForwarder(
        _store(scene, **options),
        OrderedPublisher(KafkaSettings(bootstrap_servers=scene.bootstrap), scene.topic),
        row_format,
        (lambda row: cloud_event(row, scene.topic, "application/json")) if with_events else lambda _: None,
        threading.Event(),
        retry_max_seconds=0.2,
        measures=SinkMeasures(scene.topic),
    )


def _forward(scene: SinkScene, **options: Any) -> int:
    return _forwarder(scene, **options).run(until_idle=True)


def test_every_stored_row_arrives_once_in_order_with_what_the_view_says_of_it(scene: Make):
    made = scene()
    made.store(MAX_ROWS // 2 + 10)
    made.label(0, 3)
    assert _forward(made) == 2 * (MAX_ROWS // 2 + 10)
    made.store(MAX_ROWS)  # more than one step
    assert _forward(made) == 2 * MAX_ROWS
    made.check(may_repeat=False)
    columns = (
        "record, review_id, text, product, source, stars, published_at, attributes, task, label, confidence, "
        "label_probabilities, margin, entropy, truncated, adapter_version, scored_at, human_label, "
        "kafka_topic, kafka_partition, kafka_offset"
    )
    published = {message.row.record: message.row for message in made.messages()}
    names = columns.replace("label_probabilities", "probabilities").split(", ")
    rows = made.sql(f"SELECT {columns} FROM scored_reviews")
    assert len(rows) == 10
    for row in rows:
        said = published[row[0]].model_dump()
        assert {name: said[name] for name in names} == dict(zip(names, row, strict=True))


def test_rows_that_are_labelled_undone_and_rescored_arrive_again_as_they_are_now(scene: Make):
    made = scene()
    made.store(20)
    _forward(made)
    made.label(0, 3)
    made.label(1, 4)
    made.label(1, 4, "bad", "bob")  # a tie: nobody agrees
    made.rescore(0, [3, 5, 6])
    assert _forward(made) == 4
    made.label(0, 3, "bad")
    assert _forward(made) == 1
    changes = [
        (m.row.change, m.row.kafka_offset) for m in made.check(may_repeat=False) if m.row.change != "scored"
    ]
    assert sorted(changes) == [("labelled", 3), ("labelled", 4), *[("rescored", n) for n in (3, 5, 6)]]
    assert made.sql("SELECT count(*) FROM sink_change") == [(0,)]
    of_third = [m.row for m in made.messages() if m.row.record == record_id(made.partitions[0], 3)]
    assert [(row.adapter_version, row.human_label) for row in of_third] == [
        (VERSIONS[0], None),
        (VERSIONS[1], "good"),
        (VERSIONS[1], "bad"),
    ]


def test_a_change_before_a_row_is_published_is_part_of_the_row_and_arrives_no_second_time(scene: Make):
    made = scene()
    made.store(5)
    _store(made).open()
    made.label(0, 2)
    _forward(made)
    rows = [m.row for m in made.messages() if m.row.record == record_id(made.partitions[0], 2)]
    assert [(row.change, row.human_label) for row in rows] == [("scored", "good")]
    assert made.sql("SELECT count(*) FROM sink_change") == [(0,)]


def test_a_withdrawal_arrives_in_its_place_and_what_changes_in_the_review_afterwards_does_not(scene: Make):
    made = scene(partitions=1)
    made.store(IDS)
    review_id = f"p{made.partitions[0]}-2"
    made.withdraw(0, review_id)
    made.store(IDS)  # published again: the withdrawal does not concern it
    made.withdraw(0, f"p{made.partitions[0]}-3")
    assert _forward(made) == 2 * IDS + 2
    of_review = [message.row for message in made.messages() if message.key == review_id.encode()]
    assert [row.change for row in of_review] == ["scored", "withdrawn", "scored"]
    assert of_review[1].kafka_timestamp_ms == 1_000 + IDS
    assert of_review[1].withdrawn_at == datetime.fromtimestamp((1_000 + IDS) / 1000, UTC)
    made.label(0, 2)
    made.label(0, IDS + 2)  # 7 % 5: the same id, published again
    assert _forward(made) == 1
    assert made.messages()[-1].row.record != of_review[0].record
    assert made.sql("SELECT count(*) FROM sink_change") == [(0,)]


def test_an_erased_review_becomes_a_tombstone_behind_all_that_was_published_of_it(scene: Make):
    made = scene(partitions=1)
    made.store(IDS + 2)  # the first two ids have two versions
    _forward(made)
    made.store(IDS)
    records = [record_id(made.partitions[0], offset) for offset in (1, IDS + 1, 2 * IDS + 1)]
    review_id = f"p{made.partitions[0]}-1"
    with made.database.begin() as connection:
        for table in ("review", "prediction"):
            connection.exec_driver_sql(f"DELETE FROM {table} WHERE record = ANY(%s)", (records,))
        mark_erased(connection, {records[-1]: review_id})
    _forward(made)
    of_review = [message.row for message in made.messages() if message.key == review_id.encode()]
    assert [row.change for row in of_review] == ["scored", "scored", "erased"]
    assert made.sql("SELECT count(*) FROM sink_change") == [(0,)]
    with made.database.begin() as connection:
        assert unpublished_from(connection) == {
            made.partitions[0]: record_id(made.partitions[0], 2 * IDS + 2)
        }


def test_two_forwarders_share_the_partitions_and_lose_and_repeat_nothing(scene: Make):
    made = scene(partitions=6)
    forwarders = [_forwarder(made) for _ in range(2)]
    _store(made).open()
    threads = [threading.Thread(target=one.run) for one in forwarders]
    for thread in threads:
        thread.start()
    for number in range(20):
        made.store(50)
        made.label(number % 6, number)
    for one in forwarders:
        while not one._is_done():
            threading.Event().wait(0.05)
        one._stopping.set()
    for thread in threads:
        thread.join(60)
    made.check(may_repeat=False)
    assert all(sum(one._measures.published.values()) for one in forwarders), "one of them did nothing"


def test_a_partition_that_another_forwarder_is_at_is_passed_over(scene: Make):
    made = scene(partitions=1)
    made.store(5)
    first, second = _store(made), _store(made)
    first.open()
    second.open()
    seen: list[int | None] = []
    first.forward(lambda _rows: seen.append(second.forward(lambda _: None)))
    assert seen == [None]


def test_rows_whose_publishing_failed_are_published_again_before_anything_behind_them(scene: Make):
    made = scene(partitions=1)
    made.store(5)
    store = _store(made)
    store.open()

    def fail(_: object) -> None:
        raise Unavailable("the topic does not answer")

    with pytest.raises(Unavailable):
        store.forward(fail)
    made.store(5)
    assert _forward(made) == 10
    made.check(may_repeat=False)


def test_a_row_that_is_labelled_while_it_is_sent_arrives_again(scene: Make):
    made = scene(partitions=1)
    made.store(3)
    _forward(made)
    made.label(0, 1, "bad")
    made.label(0, 2, "bad")
    store, sent = _store(made), []
    store.open()

    def label_and_send(rows: list[ScoredRow]) -> None:
        sent.extend((row.kafka_offset, row.human_label) for row in rows)
        if len(sent) == 2:
            made.label(0, 1, "good")

    while store.forward(label_and_send) is not None:
        pass
    assert sent == [(1, "bad"), (2, "bad"), (1, "good")]


@contextmanager
def _unfinished(made: SinkScene, statement: str) -> Iterator[None]:
    """A transaction that has done this, and commits when the block ends."""
    connection = made.database.engine.connect()
    with connection, connection.begin():
        connection.exec_driver_sql(statement)
        yield


def test_a_new_sink_waits_for_transactions_that_do_not_know_of_it(scene: Make):
    made = scene(partitions=1)
    made.store(3)
    record = record_id(made.partitions[0], 1)
    label = (
        "INSERT INTO label (record, task, label, annotator, source, labelled_at) "
        f"VALUES ({record}, 'sentiment', 'good', 'ann', 'test', now())"
    )
    with _unfinished(made, label):
        with pytest.raises(Unavailable, match="has been at work"):
            _store(made).open(patience_seconds=0.3)
        assert made.sql("SELECT is_open FROM sink") == [(False,)]
    _forward(made)
    made.check(may_repeat=False)


def test_a_label_that_commits_late_is_not_passed_over(scene: Make):
    made = scene(partitions=1)
    made.store(3)
    _forward(made)
    first, second = (
        "INSERT INTO label (record, task, label, annotator, source, labelled_at) "
        f"VALUES ({record_id(made.partitions[0], offset)}, 'sentiment', 'good', 'ann', 'test', now())"
        for offset in (0, 1)
    )
    with _unfinished(made, first):  # its mark has the lesser id, and becomes visible last
        with _unfinished(made, second):
            pass
        assert _forward(made) == 1
    assert _forward(made) == 1
    made.check(may_repeat=False)


def test_a_new_sink_may_begin_with_what_comes_from_now_on(scene: Make):
    made = scene(partitions=1)
    made.store(5)
    assert _forward(made, start="latest") == 0
    made.store(2)
    assert _forward(made, start="latest") == 2
    assert [message.row.kafka_offset for message in made.messages()] == [5, 6]


def test_a_partition_that_comes_later_is_published_from_its_beginning(scene: Make):
    made = scene(partitions=1)
    _forward(made, start="latest")
    made.sql(
        "INSERT INTO stream_partition (cluster_id, topic, topic_id, partition, start_offset, next_offset) "
        "VALUES ('cluster', 'reviews', 'topic', 7, 0, 0)"
    )
    made.partitions.append(made.sql("SELECT max(id) FROM stream_partition")[0][0])
    made._next[made.partitions[-1]] = 0
    made.store(3)
    assert _forward(made, start="latest") == 6


def test_a_row_that_the_topic_refuses_for_its_size_goes_there_without_its_text(scene: Make):
    made = scene(partitions=1, **{"max.message.bytes": "4000"})
    texts = [f"text {number}" for number in range(20)]
    texts[7] = random.Random(7).randbytes(9_000).hex()  # lz4 makes little of it
    made.store(20, texts=texts)
    assert _forward(made) == 20
    rows = [message.row for message in made.messages()]
    left_out = {row.kafka_offset for row in rows if row.text_left_out}
    assert left_out == {7}
    assert {row.kafka_offset for row in rows if row.text is None} == {7}
    assert {row.kafka_offset for row in rows} == set(range(20))


def test_cloud_events_carry_identity_type_and_subject_in_their_headers(scene: Make):
    made = scene(partitions=1)
    made.store(2)
    _forward(made, with_events=True)
    for key, row, headers in made.messages():
        assert headers["ce_id"] == f"{row.record}/{VERSIONS[0]}".encode() == row.event_id.encode()
        assert headers["ce_subject"] == key
        assert headers["ce_type"] == b"reviewloop.review.scored"
        assert headers["content-type"] == b"application/json"
        assert {"ce_specversion", "ce_source", "ce_time"} <= headers.keys()


def test_avro_is_read_by_the_schema_that_the_sink_registered(scene: Make, schema_registry: str):
    made = scene(partitions=1)
    made.store(5)
    made.label(0, 3)
    registry = SchemaRegistry(RegistrySettings(url=schema_registry))
    forwarder = _forwarder(made, row_format=AvroRowFormat(registry, made.topic))
    assert forwarder.run(until_idle=True) == 5
    decode = open_decoder(RecordFormat("avro"), SchemaRegistry(RegistrySettings(url=schema_registry)))

    def read(raw: bytes) -> ScoredRow:
        values = decode(raw, ())
        return ScoredRow.model_validate({**values, "attributes": json.loads(values["attributes"] or "null")})

    made.decode = read
    made.check(may_repeat=False)
    assert [message.row.human_label for message in made.messages()] == [None, None, None, "good", None]


def test_a_registry_that_is_unavailable_delays_the_rows_and_loses_none(scene: Make):
    made = scene(partitions=1)
    made.store(5)
    nowhere = SchemaRegistry(RegistrySettings(url=f"http://127.0.0.1:{free_port()}"))
    forwarder = _forwarder(made, row_format=AvroRowFormat(nowhere, made.topic))
    thread = threading.Thread(target=forwarder.run)
    thread.start()
    while "does not answer" not in forwarder._measures.problem:
        threading.Event().wait(0.05)
    forwarder._stopping.set()
    thread.join(60)
    assert made.messages() == []
    assert made.sql("SELECT next_record FROM sink_position") == [(record_id(made.partitions[0], 0),)]


def test_a_sink_whose_topic_comes_later_goes_on_by_itself(scene: Make, kafka_admin: KafkaAdminClient):
    made = scene(partitions=1)
    made.store(3)
    there, made.topic = made.topic, f"{made.topic}-later"
    forwarder = _forwarder(made)
    thread = threading.Thread(target=forwarder.run)
    thread.start()
    while "does not exist" not in forwarder._measures.problem:
        threading.Event().wait(0.05)
    try:
        kafka_admin.create_topics([NewTopic(made.topic, 1, 1)])
        while not forwarder._is_done():
            threading.Event().wait(0.05)
        made.check(may_repeat=False)
    finally:
        forwarder._stopping.set()
        thread.join(60)
        kafka_admin.delete_topics([made.topic])
        made.topic = there


def test_a_removed_sink_is_forgotten_and_begins_anew(scene: Make, run_sink: Callable[..., str]):
    made = scene(partitions=1)
    made.store(4)
    assert "Published 4 rows" in run_sink(made, "run", "--until-idle")
    made.store(1)
    (shown,) = [json.loads(line) for line in run_sink(made, "show", "--format", "jsonl").splitlines()]
    assert (shown["topic"], shown["lag_records"], shown["configured"]) == (made.topic, 1, True)
    with pytest.raises(WrongUse, match="out of them first"):
        run_sink(made, "remove", made.topic, "--yes")
    with pytest.raises(WrongUse, match="There is no sink"):
        run_sink(made, "remove", "another", "--yes")
    assert "is forgotten" in run_sink(made, "remove", made.topic, "--yes", sinks="[]")
    assert "Published 5 rows" in run_sink(made, "run", "--until-idle")


def test_a_command_without_a_sink_or_with_an_unknown_one_says_what_to_write(
    scene: Make, run_sink: Callable[..., str]
):
    made = scene(partitions=1)
    with pytest.raises(WrongUse, match=r"add a section \[\[sinks\]\]"):
        run_sink(made, "run", sinks="[]")
    with pytest.raises(WrongUse, match="There is no sink 'other'"):
        run_sink(made, "run", "--topic", "other")
    with pytest.raises(ReviewLoopError, match="does not exist"):
        run_sink(made, "run", "--until-idle", sinks='[{"topic": "nobody-made-this"}]')


@pytest.fixture
def run_sink(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs a command of ``sink``, or raises what it ended with."""
    from typer.testing import CliRunner

    from reviewloop.cli import app

    monkeypatch.setattr("os.nice", lambda _: 0)  # it would last for all further tests

    def run(made: SinkScene, *arguments: str, sinks: str | None = None) -> str:
        settings = {
            "REVIEWLOOP_KAFKA__BOOTSTRAP_SERVERS": made.bootstrap,
            "REVIEWLOOP_DATABASE__URL": made.database_url,
            "REVIEWLOOP_SINKS": json.dumps([{"topic": made.topic}]) if sinks is None else sinks,
        }
        for name, value in settings.items():
            if value:  # without one, the settings file has the sinks
                monkeypatch.setenv(name, value)
            else:
                monkeypatch.delenv(name, raising=False)
        result = CliRunner().invoke(app, ["sink", *arguments])
        if result.exception is not None:
            raise result.exception
        return result.stdout

    return run


def test_a_message_is_read_by_its_published_model():
    row = ScoredRow(
        change="withdrawn", event_id="7", as_of="2026-01-01T00:00:00Z", record=7, review_id="r",
        kafka_topic="reviews", kafka_partition=0, kafka_offset=7,
    )  # fmt: skip
    assert ScoredRow.model_validate_json(JsonFormat().encode(row)) == row


DOCS = Path(__file__).resolve().parents[2] / "docs" / "sources-and-sinks.md"


def _block(name: str, language: str) -> str:
    found = re.search(
        rf"<!-- test: {name} -->\n```{language}\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL
    )
    assert found is not None, f"{DOCS.name} has no block '{name}'"
    return found[1]


def test_the_documented_message_is_one_with_every_field():
    shown = json.loads(_block("a message", "json"))
    assert ScoredRow.model_validate(shown).model_dump().keys() == shown.keys()
    assert list(shown) == list(ScoredRow.model_fields)


def test_the_documented_sink_publishes_what_is_stored(
    scene: Make, run_sink: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made = scene(partitions=1)
    made.store(3)
    written = _block("a sink", "toml").replace("scored-reviews", made.topic)
    (tmp_path / "reviewloop.toml").write_text(written)
    monkeypatch.chdir(tmp_path)
    assert "Published 3 rows" in run_sink(made, "run", "--until-idle", sinks="")
    assert all(message.headers["ce_specversion"] == b"1.0" for message in made.check(may_repeat=False))
