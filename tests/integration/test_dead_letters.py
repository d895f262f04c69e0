"""Dead letters from end to end: stored, listed, told of on a topic, mended, replayed, discarded."""

import hashlib
import json
import random
import time
import tracemalloc
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient
from kafka.admin import NewTopic
from pydantic import SecretStr

from broker.forwarding import forward
from consumer.forwarding import Forwarder
from reviewloop.settings import load_settings
from reviewloop.wiring.workers import forwarding
from reviews.dead_letter import StoredLetter
from reviews.errors import Unavailable, WrongUse
from storage.database import Database
from storage.settings import DatabaseSettings
from storage.stream import stream_writer
from storage.stream.dead_letters import Choice, DeadLetterStore
from tests.conftest import TopicFactory
from tests.integration.in_process import POISON, InProcess, Stream, read_topic

BAD_STARS = b'{"id": "1", "text": "Good.", "stars": 6}'
_NEVER = {"window_messages": 10, "max_invalid_share": 1, "max_invalid_run": 0}


def _bad(number: int) -> bytes:
    return json.dumps({"id": f"r{number}", "text": "Good.", "stars": 6}).encode()


def _states(stream: InProcess) -> list[tuple[Any, ...]]:
    return stream.sql(
        "SELECT kafka_offset, state, replay_of, replayed_as FROM dead_letters ORDER BY kafka_offset"
    )


def test_a_replay_that_fails_again_waits_in_place_of_the_first_and_a_mended_one_settles_both(
    stream: Stream, run, tmp_path: Path
) -> None:
    made = stream(
        configs={"retention.ms": "-1"}
    )  # or the broker may delete a message of 2023 before it is read
    made.publish([BAD_STARS], key=b"1", timestamp_ms=1_700_000_000_000)
    made.consume()
    place = f"{made.topic}:0:0"

    assert "1 dead letters" in run(made, "dead-letters", "replay", place)
    assert _states(made) == [(0, "waiting", None, None)]  # publishing alone settles nothing
    made.consume()
    assert _states(made) == [(0, "superseded", None, None), (1, "waiting", place, None)]

    mended = tmp_path / "mended.json"
    mended.write_bytes(BAD_STARS.replace(b"6", b"5"))
    run(made, "dead-letters", "replay", place, "--value-file", mended)
    made.consume()

    done = f"{made.topic}:0:2"
    assert _states(made) == [(0, "replayed", None, done), (1, "replayed", place, done)]
    assert made.sql("SELECT count(*) FROM dead_letters WHERE state_changed_at IS NULL") == [(0,)]
    # The old message keeps its old time and its key.
    rows = made.sql("SELECT review_id, extract(epoch FROM published_at)::bigint FROM scored_reviews")
    assert rows == [("1", 1_700_000_000)]
    assert {record.key for record in read_topic(made.kafka.bootstrap_servers, made.topic, 3)} == {b"1"}
    with pytest.raises(WrongUse, match="replayed already"):
        run(made, "dead-letters", "replay", place)


def test_however_often_all_are_replayed_in_vain_as_many_wait_and_count_their_attempts(
    stream: Stream, run
) -> None:
    made = stream()
    made.publish([_bad(number) for number in range(5)])
    made.consume(breaker=_NEVER)

    for times in range(2, 5):
        assert "5 dead letters" in run(made, "dead-letters", "replay", "--all")
        made.consume(breaker=_NEVER)
        listed = [json.loads(line) for line in run(made, "dead-letters", "list").splitlines()]
        assert [letter["attempts"] for letter in listed] == [times] * 5

    # The first one's place still names them all.
    run(made, "dead-letters", "discard", f"{made.topic}:0:0", "--reason", "no stars")
    assert "Discarded 4" in run(made, "dead-letters", "discard", "--all", "--reason", "no stars")
    states = made.sql("SELECT state, count(*) FROM dead_letters GROUP BY 1 ORDER BY 1")
    assert states == [("discarded", 5), ("superseded", 15)]


def test_a_replay_is_marked_only_with_the_transaction_that_stores_its_review(
    stream: Stream, run, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = stream()
    made.publish([f'{{"id": "1", "text": "{POISON}"}}'.encode()])
    made.consume(breaker=_NEVER)
    run(made, "dead-letters", "replay", "--error", "model_failed")
    made.consume(breaker=_NEVER)
    assert [state for _, state, *_ in _states(made)] == ["superseded", "waiting"]

    made.classifier.score = lambda texts: [made.classifier.__class__().score(["fine"])[0] for _ in texts]
    run(made, "dead-letters", "replay", "--error", "model_failed")
    original = stream_writer.note_replays

    def refuse(*arguments: object) -> None:
        original(*arguments)
        raise RuntimeError("killed before the commit")

    with made.worker() as worker, monkeypatch.context() as patched:
        patched.setattr(stream_writer, "note_replays", refuse)
        with pytest.raises(RuntimeError, match="before the commit"):
            worker.run(1.0)
    assert [state for _, state, *_ in _states(made)] == ["superseded", "waiting"]
    assert made.sql("SELECT count(*) FROM review") == [(0,)]

    made.consume()
    assert [state for _, state, *_ in _states(made)] == ["replayed", "replayed"]
    assert made.sql("SELECT count(*) FROM review") == [(1,)]


def test_a_forged_header_marks_nothing_and_stops_nobody(stream: Stream) -> None:
    made = stream()
    made.publish([BAD_STARS])
    made.consume()
    good = [b'{"id": "2", "text": "Good."}']
    for value in (
        b"",
        b"no-topic:0:0",
        b"\xff\xfe",
        b"a:b:c",
        b":0:0",
        b"x:99999999999:0",
        b"x:0:" + b"9" * 5000,
    ):
        made.publish(good, headers=[("reviewloop.dead_letter", value), ("reviewloop.timestamp", value)])
    totals = made.consume()

    assert totals.accepted == 7
    assert [state for _, state, *_ in _states(made)] == ["waiting"]


def test_discarding_keeps_the_reason_and_a_discarded_letter_is_not_discarded_twice(
    stream: Stream, run
) -> None:
    made = stream()
    made.publish([_bad(1), b"nonsense", _bad(2)])
    made.consume(breaker=_NEVER)

    assert "Discarded 2" in run(
        made, "dead-letters", "discard", "--error", "bad_stars", "--reason", "test data"
    )

    rows = made.sql("SELECT kafka_offset, state, state_reason FROM dead_letters ORDER BY kafka_offset")
    assert rows == [(0, "discarded", "test data"), (1, "waiting", None), (2, "discarded", "test data")]
    with pytest.raises(WrongUse, match="discarded already"):
        run(made, "dead-letters", "discard", f"{made.topic}:0:0", "--reason", "again")
    with pytest.raises(WrongUse, match="no dead letter at"):
        run(made, "dead-letters", "discard", f"{made.topic}:0:99", "--reason", "again")
    for nothing in ([], ["--all", "--error", "bad_stars"], ["x:0:0", "--all"]):
        with pytest.raises(WrongUse, match="which dead letters"):
            run(made, "dead-letters", "discard", *nothing, "--reason", "again")


def test_the_list_can_be_cut_by_reason_stage_topic_time_and_state(stream: Stream, run) -> None:
    made = stream()
    made.publish([_bad(1), b"nonsense", None, f'{{"id": "1", "text": "{POISON}"}}'.encode()], key=b"k")
    made.consume(breaker=_NEVER)

    def listed(*options: object) -> list[str]:
        lines = run(made, "dead-letters", "list", "--format", "jsonl", *options).splitlines()
        return sorted(json.loads(line)["error"] for line in lines)

    assert listed() == ["bad_stars", "model_failed", "not_json", "tombstone"]
    assert listed("--error", "not_json") == ["not_json"]
    assert listed("--stage", "score") == ["model_failed"]
    assert listed("--topic", "another") == []
    assert listed("--since", "1h", "--until", "2100-01-01", "--limit", 2) != []
    assert listed("--until", "1h") == []
    assert listed("--state", "discarded") == []
    assert "not_json" in run(made, "dead-letters", "list", "--count", "--format", "csv")
    assert run(made, "dead-letters", "show", f"{made.topic}:0:1", "--raw") == "nonsense"


def test_of_a_message_that_is_too_long_the_beginning_the_size_and_the_hash_are_kept(
    stream: Stream, topic: TopicFactory, run, tmp_path: Path
) -> None:
    made, target = stream(), topic()
    long = json.dumps({"id": "2", "text": "long " * 60_000}).encode()
    made.publish([b'{"id": "1", "text": "Good."}', long, b"nonsense", b'{"id": "3", "text": "Good."}'])
    totals = made.consume(breaker=_NEVER, forward=True, max_message_bytes=100_000)

    assert (totals.accepted, totals.dead_letters) == (2, 2)
    digest = hashlib.sha256(long).hexdigest()
    stored = made.sql("SELECT raw, raw_full_bytes, raw_sha256, error FROM dead_letters ORDER BY kafka_offset")
    assert stored == [(long[:65_536], len(long), digest, "too_long"), (b"nonsense", None, None, "not_json")]

    DeadLetterStore(made.database).forward(lambda letters: forward(made.kafka, target, letters))
    told, _ = read_topic(made.kafka.bootstrap_servers, target, 2)
    headers = dict(told.headers)
    assert (told.value, headers["reviewloop.value_sha256"]) == (long[:65_536], digest.encode())
    assert headers["reviewloop.value_bytes"] == str(len(long)).encode()

    place = f"{made.topic}:0:1"
    listed = json.loads(run(made, "dead-letters", "list", "--error", "too_long"))
    assert "raw" not in listed
    assert f"{len(long):,} bytes" in listed["message"]
    assert (listed["raw_full_bytes"], listed["raw_sha256"]) == (len(long), digest)
    assert run(made, "dead-letters", "show", place, "--raw") == long[:65_536].decode()
    with pytest.raises(WrongUse, match="only the beginning was kept"):
        run(made, "dead-letters", "replay", place)
    assert "Published 1" in run(made, "dead-letters", "replay", "--all")

    mended = tmp_path / "mended.json"
    mended.write_bytes(b'{"id": "2", "text": "Short."}')
    assert "Published 1" in run(made, "dead-letters", "replay", place, "--value-file", mended)
    assert made.consume(breaker=_NEVER).accepted == 1
    assert [state for _, state, *_ in _states(made)] == ["replayed", "superseded", "waiting"]


def test_large_letters_are_read_one_by_one_for_a_replay(stream: Stream) -> None:
    made = stream()
    made.publish([b"x" * 900_000] * 4 + [b"x"] * 30)
    made.consume(breaker=_NEVER)
    store = DeadLetterStore(made.database)
    chosen = store.choose(Choice())
    tracemalloc.start()
    try:
        sizes = [len(letter.raw or b"") for letter in store.read(chosen)]
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sizes == [900_000] * 4 + [1] * 30
    assert most < 2 * 900_000 + 1_000_000, f"{most:,} bytes"


def test_the_topic_is_told_of_every_letter_with_connects_headers_and_the_original_bytes(
    stream: Stream, topic: TopicFactory
) -> None:
    made, target = stream(configs={"retention.ms": "-1"}), topic()
    raw = b"\xff\x00 no text at all"
    made.publish([raw, None, b'{"id": "1", "text": "Good."}'], key=b"\x00key", timestamp_ms=1_700_000_000_000)
    made.consume(breaker=_NEVER, forward=True)
    store = DeadLetterStore(made.database)

    assert store.forward(lambda letters: forward(made.kafka, target, letters)) == 2
    assert store.forward(lambda letters: forward(made.kafka, target, letters)) == 0

    first, second = read_topic(made.kafka.bootstrap_servers, target, 2)
    assert (first.value, first.key, first.timestamp) == (raw, b"\x00key", 1_700_000_000_000)
    assert (second.value, second.key) == (None, b"\x00key")
    assert dict(first.headers) == {
        "__connect.errors.topic": made.topic.encode(),
        "__connect.errors.partition": b"0",
        "__connect.errors.offset": b"0",
        "__connect.errors.stage": b"parse",
        "__connect.errors.exception.class.name": b"not_utf8",
        "__connect.errors.exception.message": b"The value is not UTF-8: invalid start byte at byte 0.",
        "__connect.errors.exception.stacktrace": (
            b"not_utf8: The value is not UTF-8: invalid start byte at byte 0."
        ),
    }


def test_letters_stored_while_no_topic_was_configured_are_not_told_of_later(stream: Stream) -> None:
    made = stream()
    made.publish([BAD_STARS])
    made.consume(forward=False)
    assert DeadLetterStore(made.database).forward(print) == 0


def test_what_was_told_without_being_marked_is_told_again_and_nothing_is_left_out(stream: Stream) -> None:
    made = stream()
    made.publish([_bad(number) for number in range(7)])
    made.consume(breaker=_NEVER, forward=True)
    store = DeadLetterStore(made.database)
    told: list[int] = []

    def die_after(letters: list[StoredLetter]) -> None:
        told.extend(letter.offset for letter in letters)
        raise Unavailable("killed between publishing and marking")

    with pytest.raises(Unavailable):
        store.forward(die_after, max_letters=3)
    while store.forward(lambda letters: told.extend(letter.offset for letter in letters), max_letters=3):
        pass
    assert told == [0, 1, 2, 0, 1, 2, 3, 4, 5, 6]


def test_a_topic_that_takes_its_time_is_told_once(stream: Stream) -> None:
    made = stream()
    made.publish([BAD_STARS])
    made.consume(forward=True)
    told: list[int] = []

    def tell_slowly(letters: list[StoredLetter]) -> None:
        told.extend(letter.offset for letter in letters)
        time.sleep(1)

    url = SecretStr(made.database.url.render_as_string(hide_password=False))
    impatient = Database(DatabaseSettings(url=url, idle_in_transaction_timeout_seconds=0.1))
    with closing(impatient):
        store = DeadLetterStore(impatient)
        assert [store.forward(tell_slowly), store.forward(tell_slowly)] == [1, 0]
    assert told == [0]


def test_letters_that_are_large_together_are_told_in_several_goes(stream: Stream) -> None:
    made = stream()
    made.publish([b"x" * 1000, b"y" * 1000, b"z" * 5000])
    made.consume(breaker=_NEVER, forward=True)
    goes: list[int] = []
    store = DeadLetterStore(made.database)
    while store.forward(lambda letters: goes.append(len(letters)), max_bytes=2500):
        pass
    assert goes == [2, 1]


def test_a_letter_that_the_topic_refuses_for_its_size_arrives_without_its_value_and_stops_no_other(
    stream: Stream, topic: TopicFactory
) -> None:
    made, target = stream(), topic(configs={"max.message.bytes": "2000"})
    noise = random.Random(0).randbytes(10_000)  # nothing that compression makes small
    made.publish([b"small", noise, None], key=b"k")
    made.consume(breaker=_NEVER, forward=True)

    DeadLetterStore(made.database).forward(lambda letters: forward(made.kafka, target, letters))

    arrived = read_topic(made.kafka.bootstrap_servers, target, 3)
    values = {dict(record.headers)["__connect.errors.offset"]: record for record in arrived}
    assert [values[offset].value for offset in (b"0", b"1", b"2")] == [b"small", None, None]
    assert dict(values[b"1"].headers)["reviewloop.value_left_out"] == str(len(noise)).encode()


def test_a_letter_without_a_key_stops_no_other_where_the_topic_wants_one(
    stream: Stream, topic: TopicFactory
) -> None:
    made, target = stream(), topic(configs={"cleanup.policy": "compact"})
    made.publish([b"without"])
    made.publish([b"with"], key=b"k")
    made.consume(breaker=_NEVER, forward=True)

    assert DeadLetterStore(made.database).forward(lambda letters: forward(made.kafka, target, letters)) == 2

    arrived = read_topic(made.kafka.bootstrap_servers, target, 2)
    assert {(record.key, record.value) for record in arrived} == {(b"", b"without"), (b"k", b"with")}


def test_a_topic_that_does_not_exist_delays_the_letters_and_not_the_stream(
    stream: Stream, kafka_admin: KafkaAdminClient
) -> None:
    made = stream()
    missing = f"{made.topic}-dead"
    store = DeadLetterStore(made.database)
    forwarder = Forwarder(
        store,
        lambda letters: forward(made.kafka, missing, letters),
        poll_seconds=0.1,
        retry_max_seconds=0.2,
    )
    forwarder.start()
    made.publish([BAD_STARS, b'{"id": "1", "text": "Good."}'])

    totals = made.consume(forward=True)
    assert (totals.accepted, totals.dead_letters) == (1, 1)
    assert made.sql("SELECT to_forward FROM dead_letter") == [(True,)]

    kafka_admin.create_topics([NewTopic(missing, 1, 1)])
    try:
        assert [record.value for record in read_topic(made.kafka.bootstrap_servers, missing, 1)] == [
            BAD_STARS
        ]
        assert forwarder.stop(timeout_seconds=120)
        assert made.sql("SELECT to_forward FROM dead_letter") == [(False,)]
    finally:
        forwarder.stop(timeout_seconds=120)
        kafka_admin.delete_topics([missing])


def test_the_configured_topic_is_made_told_of_by_a_worker_and_may_not_be_the_one_that_is_read(
    stream: Stream, run, monkeypatch: pytest.MonkeyPatch, kafka_admin: KafkaAdminClient
) -> None:
    made = stream()
    target = f"{made.topic}-dead"
    monkeypatch.setenv("REVIEWLOOP_CONSUMER__DEAD_LETTER_TOPIC", target)
    assert f"{target}: made" in run(made, "topics", "create")
    try:
        made.publish([BAD_STARS])
        made.consume(forward=True)
        with forwarding(load_settings(), made.database):
            (told,) = read_topic(made.kafka.bootstrap_servers, target, 1)
        assert told.value == BAD_STARS
    finally:
        kafka_admin.delete_topics([target])
    monkeypatch.setenv("REVIEWLOOP_CONSUMER__DEAD_LETTER_TOPIC", made.topic)
    with pytest.raises(WrongUse, match="another topic"), forwarding(load_settings(), made.database):
        pass


def test_the_letters_of_one_topic_made_anew_are_kept_apart(stream: Stream) -> None:
    made = stream()
    made.publish([BAD_STARS])
    made.consume()
    store = DeadLetterStore(made.database)
    (letter,) = store.read(store.choose(Choice()))
    made.publish(
        [b'{"id": "1", "text": "Good."}'],
        headers=[
            ("reviewloop.dead_letter", f"00000000-0000-0000-0000-000000000000:0:{letter.offset}".encode())
        ],
    )
    made.consume()
    assert [state for _, state, *_ in _states(made)] == ["waiting"]
