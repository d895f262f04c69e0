"""Moving on by hand: forward only, by compare-and-set, with a record of what was skipped."""

import json
from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from broker.topics import topic_ends
from reviewloop.cli import app
from storage.database import Database
from storage.settings import DatabaseSettings
from storage.stream.partitions import PartitionStore
from tests.integration.in_process import Stream
from tests.integration.system import System

Run = Callable[..., str]


@pytest.fixture
def read(system) -> System:
    """A topic with ten records in one partition, of which three are stored."""
    made = system(partitions=1)
    made.publish([b"{}"] * 10)
    made.sql(
        "INSERT INTO stream_partition (cluster_id, topic, topic_id, partition, start_offset, next_offset) "
        "VALUES ('c', %s, 't1', 0, 0, 3) RETURNING id",
        made.topic,
    )
    return made


def _rows(made: System, *arguments: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in made.run("offsets", "show", *arguments).splitlines()]


def test_going_forward_skips_and_says_what_was_skipped(read: System):
    read.run("offsets", "set", f"{read.topic}:0:7", "--yes", "--reason", "a broken publisher")
    assert _rows(read)[0]["next_offset"] == 7
    (gap,) = _rows(read, "--gaps")
    assert (gap["first_offset"], gap["next_offset"], gap["reason"]) == (3, 7, "a broken publisher")


@pytest.mark.parametrize(
    ("offset", "arguments", "code", "said"),
    [
        (3, ["--yes"], 2, "only grows"),
        (1, ["--yes"], 2, "only grows"),
        (11, ["--yes"], 2, "ends at 10"),
        (7, ["--yes", "--expect", "2"], 1, "is 3, not 2"),
        (7, ["--yes", "--topic-id", "t2"], 2, "never read"),
        (7, [], 1, ""),
    ],
    ids=["same", "backward", "beyond the end", "moved", "another topic", "not confirmed"],
)
def test_anything_else_changes_nothing(read: System, offset: int, arguments: list[str], code: int, said: str):
    assert said in read.run(
        "offsets", "set", f"{read.topic}:0:{offset}", *arguments, code=code, input_text="n\n"
    )
    assert _rows(read)[0]["next_offset"] == 3
    assert _rows(read, "--gaps") == []


def test_of_two_topics_by_one_name_one_has_to_be_chosen(read: System):
    read.sql(
        "INSERT INTO stream_partition (cluster_id, topic, topic_id, partition, start_offset, next_offset) "
        "VALUES ('c', %s, 't2', 0, 0, 0) RETURNING id",
        read.topic,
    )
    assert "t1, t2" in read.run("offsets", "set", f"{read.topic}:0:7", "--yes", code=2)
    read.run("offsets", "set", f"{read.topic}:0:7", "--yes", "--topic-id", "t2")
    assert [row["next_offset"] for row in _rows(read)] == [3, 7]


def test_an_offset_that_moved_since_it_was_shown_is_left_alone(read: System):
    database = Database(DatabaseSettings(url=read.environment["REVIEWLOOP_DATABASE__URL"]))
    store = PartitionStore(database)
    assert not store.record_gap(store.list_positions()[0].partition_id, 2, 7, "late")
    database.close()
    assert _rows(read, "--gaps") == []


def test_the_lag_is_that_of_the_topic_that_was_read_not_of_another_by_its_name(stream: Stream, run: Run):
    made = stream(partitions=2)
    made.publish([b"{}"] * 10, partition=1)
    found = topic_ends(made.kafka, [made.topic])[made.topic]
    store = PartitionStore(made.database)
    store.register_all(found.cluster_id, made.topic, found.topic_id, {0: 0, 1: 3})
    store.register_all(found.cluster_id, made.topic, "deleted", {1: 3})
    store.register_all("another cluster", made.topic, found.topic_id, {1: 3})
    rows = [json.loads(line) for line in run(made, "offsets", "show").splitlines()]
    lags = {(row["cluster_id"], row["topic_id"], row["partition"]): row["lag"] for row in rows}
    assert lags == {
        (found.cluster_id, found.topic_id, 0): 0,
        (found.cluster_id, found.topic_id, 1): 7,
        (found.cluster_id, "deleted", 1): None,
        ("another cluster", found.topic_id, 1): None,
    }


def test_offsets_are_shown_without_brokers_too_and_why_the_lag_is_not_known(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
):
    made = stream()
    PartitionStore(made.database).register("c", made.topic, "t", 0, 3)
    for name, value in {**made.environment(), "REVIEWLOOP_KAFKA__BOOTSTRAP_SERVERS": ""}.items():
        monkeypatch.setenv(name, value)
    shown = CliRunner().invoke(app, ["offsets", "show"])
    assert shown.exit_code == 0
    assert "The lag is not known: No Kafka broker is configured" in shown.stderr
    row = json.loads(shown.stdout)
    assert (row["next_offset"], row["lag"]) == (3, None)
