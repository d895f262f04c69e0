"""Topics of other shapes on a real Kafka and PostgreSQL: rows, withdrawals, dead letters, replays, trials."""

import json
import tomllib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from consumer.parsing import ReviewParser
from reviewloop.cli import app
from reviews.sources.settings import SourceSettings
from reviews.sources.topics import TopicMappings, without_decoders
from tests.documented_sources import DocumentedSource, documented_sources
from tests.integration.in_process import InProcess, Stream, read_topic
from tests.integration.system import System

LIMIT = 4 * 1024 * 1024
OFF = {"window_messages": 1000, "max_invalid_share": 1, "max_invalid_run": 0}
FOREIGN = {
    "fields": {"id": "uuid", "text": "body", "product": "$headers.sku"},
    "attributes": {"market": "market"},
}


def parser_of(made: InProcess, source: dict[str, Any]) -> ReviewParser:
    """What reads the topic of a stream by these settings."""
    settings = SourceSettings.model_validate({**source, "topic": made.topic, "pattern": None})
    return ReviewParser(TopicMappings([settings], LIMIT, without_decoders))


def consume(made: InProcess, source: dict[str, Any]) -> None:
    """Read all of the topic by these settings."""
    made.consume(parts={"parse": parser_of(made, source)}, breaker=OFF)


def letters(made: InProcess) -> list[tuple[Any, ...]]:
    return made.sql("SELECT kafka_offset, stage, error, state FROM dead_letters ORDER BY kafka_offset")


@pytest.mark.parametrize("example", documented_sources(), ids=lambda example: example.title)
def test_a_documented_example_is_read_from_a_topic_into_rows(
    stream: Stream, example: DocumentedSource
) -> None:
    made = stream()
    withdrawn = [record.expected["review_id"] for record in example.records if record.kind == "withdrawn"]
    for record in example.records:
        made.publish([record.value], key=record.key, headers=record.headers)
    made.publish([b"\xff\xfe no bytes of this format"])

    consume(made, example.source)

    rows = [record.expected for record in example.records if record.kind == "row"]
    for expected in rows:
        columns = ", ".join(expected)
        ((*found,),) = made.sql(
            f"SELECT {columns} FROM scored_reviews WHERE review_id = %s", expected["review_id"]
        )
        values = [
            value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value
            for value in found
        ]
        assert dict(zip(expected, values, strict=True)) == expected
    assert made.sql("SELECT count(*) FROM review") == [(len(rows),)]
    assert made.sql("SELECT review_id FROM withdrawal") == [(name,) for name in withdrawn]
    ((offset, stage, error, _),) = letters(made)
    assert (offset, stage) == (len(example.records), "decode"), error


def test_sound_broken_and_left_out_records_each_become_what_they_are(stream: Stream) -> None:
    made = stream()
    source = {**FOREIGN, "where": [{"path": "kind", "none_of": ["question"]}], "tombstones": "withdraw",
              "fields": {**FOREIGN["fields"], "id": ["uuid", "$key"]}}  # fmt: skip
    values = [
        {"uuid": "a", "body": "Good.", "market": "de"},
        {"uuid": "b", "body": "Is it blue?", "kind": "question"},
        {"uuid": "c"},
        {"uuid": "d", "body": "Fine.", "market": {"of": [1, "ü", None]}},
        {"uuid": "e", "body": "Soft.", "market": "x" * 20_000},
    ]
    made.publish([json.dumps(value).encode() for value in values], headers=[("sku", b"linen")])
    made.publish([b"no json", None, b'{"uuid": "f", "body": "Last."}'], key=b"a")

    consume(made, source)

    assert letters(made) == [
        (2, "map", "missing_text", "waiting"),
        (4, "map", "bad_attributes", "waiting"),
        (5, "decode", "not_json", "waiting"),
    ]
    found = made.sql("SELECT review_id, product, attributes FROM scored_reviews ORDER BY review_id")
    assert found == [("d", "linen", {"market": {"of": [1, "ü", None]}}), ("f", None, None)]
    assert made.sql("SELECT review_id, kind FROM withdrawal") == [("a", "tombstone")]
    assert made.sql("SELECT next_offset FROM stream_partition") == [(8,)]


def test_debezium_inserts_updates_deletes_and_inserts_again(stream: Stream) -> None:
    made = stream()

    def event(operation: str, before: Any, after: Any) -> bytes:
        return json.dumps(
            {"before": before, "after": after, "op": operation, "ts_ms": 1, "source": {}}
        ).encode()

    first, second = {"id": 1, "text": "Good."}, {"id": 1, "text": "Bad."}
    other = {"id": 2, "text": "Fine."}
    for number, value in enumerate(
        (event("r", None, other), event("c", None, first), event("u", first, second))
    ):
        made.publish([value], timestamp_ms=1_000_000 + number)
    consume(made, {"preset": "debezium"})
    assert made.sql("SELECT review_id, text FROM scored_reviews ORDER BY 1") == [
        ("1", "Bad."),
        ("2", "Fine."),
    ]

    made.publish([event("d", {"id": 1, "text": None}, None), None], key=b'{"id": 1}', timestamp_ms=2_000_000)
    consume(made, {"preset": "debezium"})
    assert made.sql("SELECT review_id FROM scored_reviews") == [("2",)]
    assert made.sql("SELECT count(*) FROM review") == [(3,)]  # the history stays

    made.publish([event("c", None, first)], timestamp_ms=3_000_000)
    consume(made, {"preset": "debezium"})
    assert made.sql("SELECT review_id, text FROM scored_reviews ORDER BY 1") == [
        ("1", "Good."),
        ("2", "Fine."),
    ]
    assert letters(made) == []


def test_dead_letters_of_both_stages_are_replayed_by_the_rules_of_their_source(
    stream: Stream, run: Callable[..., str], tmp_path: Path
) -> None:
    made = stream()
    headers = [("sku", b"linen"), ("trace", b"\xff\x00"), ("sku", b"wool")]
    made.publish([b'{"uuid": "a", "text": "Good."}', b'{"uuid": "b", '], key=b"k", headers=headers)
    consume(made, FOREIGN)
    assert letters(made) == [(0, "map", "missing_text", "waiting"), (1, "decode", "not_json", "waiting")]

    # As they are, under other settings: the headers that the mapping reads are there again.
    run(made, "dead-letters", "replay", "--error", "missing_text")
    consume(made, {"fields": {"text": "text", "product": "$headers.sku"}})
    topic_id = made.sql("SELECT topic_id FROM stream_partition")[0][0]
    assert made.sql("SELECT review_id, product FROM scored_reviews") == [(f"{topic_id}:0:0", "wool")]

    # And corrected, in the shape of the source.
    corrected = tmp_path / "corrected.json"
    corrected.write_bytes(b'{"uuid": "b", "body": "Fine.", "market": 7}')
    run(made, "dead-letters", "replay", f"{made.topic}:0:1", "--value-file", corrected)
    consume(made, FOREIGN)
    found = made.sql("SELECT product, attributes FROM scored_reviews WHERE review_id = 'b'")
    assert found == [("wool", {"market": 7})]
    assert [state for *_, state in letters(made)] == ["replayed", "replayed"]
    replayed = read_topic(str(made.kafka.bootstrap_servers), made.topic, 4)[2:]
    assert [record.headers[:3] for record in replayed] == [headers, headers]
    assert {record.key for record in replayed} == {b"k"}


def test_a_replay_that_its_source_leaves_out_waits_with_a_word_on_what_to_do(
    stream: Stream, run: Callable[..., str]
) -> None:
    made = stream()
    made.publish([b'{"uuid": "a", "kind": "question"}'])
    consume(made, FOREIGN)
    run(made, "dead-letters", "replay", "--all")
    consume(made, {**FOREIGN, "where": [{"path": "kind", "none_of": ["question"]}]})
    assert letters(made) == [(0, "map", "missing_text", "superseded"), (1, "map", "left_out", "waiting")]


def test_headers_beyond_what_is_kept_make_a_letter_that_is_cut(
    stream: Stream, run: Callable[..., str]
) -> None:
    made = stream()
    made.publish([b"no json"], headers=[("a", b"1"), ("b", b"x" * 70_000), ("c", b"3")])
    consume(made, FOREIGN)
    assert made.sql("SELECT headers FROM dead_letters") == [([{"name": "a", "value": "1"}, {"left_out": 2}],)]
    with pytest.raises(Exception, match="only the beginning"):
        run(made, "dead-letters", "replay", f"{made.topic}:0:0")


def test_reviews_are_found_by_their_attributes(stream: Stream, run: Callable[..., str]) -> None:
    made = stream()
    values = [{"uuid": str(n), "body": "Good.", "market": ("de", 7, "7", True)[n % 4]} for n in range(8)]
    made.publish([json.dumps(value).encode() for value in values])
    made.publish([b'{"uuid": "none", "body": "Good."}'])
    consume(made, FOREIGN)

    def found(*attributes: str) -> set[str]:
        options = [option for one in attributes for option in ("--attribute", one)]
        lines = run(made, "query", *options, "--format", "jsonl").splitlines()
        return {json.loads(line)["review_id"] for line in lines}

    assert found("market=de") == {"0", "4"}
    assert found("market=7") == {"1", "2", "5", "6"}
    assert found("market=true") == {"3", "7"}
    assert found("market=fr") == found("market=de", "market=7") == set()
    assert len(found()) == 9


def test_the_sources_in_the_settings_are_what_the_commands_read_by(
    system: Callable[..., System], tiny_adapters: tuple[Path, Path]
) -> None:
    made = system()
    made.run("db", "upgrade")
    made.run("adapters", "add", tiny_adapters[0], "--activate")
    sound = [
        {"review": {"key": f"r{n}"}, "comment": f"It fits number {n} well.", "rating": 8} for n in range(20)
    ]
    made.publish([*sound, {"review": {"key": "bad"}}])

    section = made.folder / "reviewloop.toml"
    section.write_text(
        f'[[sources]]\ntopic = "{made.topic}"\n\n[sources.fields]\nid = "review.key"\ntext = "comment"\n'
        'stars = { path = "rating", scale = [1, 10] }\n'
    )
    lines = [json.loads(line) for line in made.run("sources", "try", made.topic).splitlines()]
    assert sorted({line["outcome"] for line in lines}) == ["dead letter", "review"]
    assert "review.key" in made.run("sources", "list")
    made.run("consume", "--until-idle", "1")
    stored = made.sql("SELECT count(*), min(stars), max(review_id) FROM scored_reviews")
    assert stored == [(20, 4.111111, "r9")]
    assert made.sql("SELECT stage, error FROM dead_letters") == [("map", "missing_text")]


def test_a_proposal_that_is_pasted_reads_the_topic(
    system: Callable[..., System], tiny_adapters: tuple[Path, Path]
) -> None:
    made = system()
    rows = [{"id": n, "body": f"It shrank {n} times in the wash.", "score": n % 5 + 1} for n in range(12)]
    made.publish([{"before": None, "after": row, "op": "c", "ts_ms": 1, "source": {}} for row in rows])
    options = [
        "--preset",
        "debezium",
        "--set",
        "id=id",
        "--set",
        "text=body",
        "--set",
        "attributes.score=score",
    ]
    lines = [json.loads(line) for line in made.run("sources", "try", made.topic, *options).splitlines()]
    assert {line["outcome"] for line in lines} == {"review"}
    assert {line["attributes"]["score"] for line in lines} == {1, 2, 3, 4, 5}


def test_a_trial_moves_no_offset_and_joins_no_group(stream: Stream, run: Callable[..., str]) -> None:
    made = stream(partitions=3)
    for partition in range(3):
        made.publish([b'{"id": "%d", "text": "Good."}' % n for n in range(40)], partition=partition)
    lines = [
        json.loads(line) for line in run(made, "sources", "try", made.topic, "--limit", "30").splitlines()
    ]
    places = [tuple(map(int, line["place"].split(":"))) for line in lines]
    assert places == [(partition, offset) for partition in range(3) for offset in range(30, 40)]
    assert made.sql("SELECT count(*) FROM stream_partition") == [(0,)]


def test_the_section_that_a_trial_proposes_can_be_pasted(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = stream()
    made.publish([json.dumps({"nr": n, "meinung": f"Passt gut, Nummer {n}."}).encode() for n in range(5)])
    for name, value in made.environment().items():
        monkeypatch.setenv(name, value)
    shown = CliRunner().invoke(app, ["sources", "try", made.topic, "--format", "json"])
    assert shown.exit_code == 1  # nearly all of them would become dead letters
    (source,) = tomllib.loads(json.loads(shown.stdout)["proposed"])["sources"]
    consume(made, source)
    assert made.sql("SELECT count(*) FROM scored_reviews WHERE text ^@ 'Passt gut'") == [(5,)]
