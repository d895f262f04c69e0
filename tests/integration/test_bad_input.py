"""Bad input on a real Kafka and PostgreSQL: each is a dead letter with its reason, and the others land."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from kafka import KafkaProducer

from reviews.dead_letter import REPLAY_HEADER
from reviews.errors import StreamError
from tests.integration.in_process import POISON, InProcess, Stream
from tests.unit.reviews.bad_input import ACCEPTED, REFUSED, message

_OFF = {"window_messages": 1000, "max_invalid_share": 1, "max_invalid_run": 0}
_LARGE = {"max.message.bytes": str(8 * 1024 * 1024)}


def _good(name: str, text: str = "Good.", **fields: str) -> bytes:
    return json.dumps({"id": name, "text": text, **fields}).encode()


def _letters(made: InProcess) -> dict[int, tuple[str, bytes | None]]:
    rows = made.sql("SELECT kafka_offset, error, raw FROM dead_letters")
    return {offset: (error, raw) for offset, error, raw in rows}


def test_one_batch_with_every_bad_and_odd_message_loses_none_and_mixes_up_none(stream: Stream) -> None:
    made = stream(configs=_LARGE)
    refused = [*REFUSED.values(), (_good("poison", f"… {POISON} …"), "model_failed")]
    odd = [raw for raw, _ in ACCEPTED.values()]
    neighbours = [_good(f"neighbour {number}") for number in range(len(refused) + len(odd) + 1)]
    bad_offsets = made.publish([raw for raw, _ in refused], key=b"k")
    odd_offsets = made.publish(odd)
    made.publish(neighbours)

    totals = made.consume(max_batch_reviews=10_000, max_wait_seconds=3, breaker=_OFF)

    assert (totals.accepted, totals.dead_letters) == (len(odd) + len(neighbours), len(refused))
    expected = {offset: (reason, raw) for offset, (raw, reason) in zip(bad_offsets, refused, strict=True)}
    assert _letters(made) == expected
    assert made.sql("SELECT count(*) FROM review WHERE review_id ^@ 'neighbour'") == [(len(neighbours),)]
    stored = {
        row[0]: row[1:]
        for row in made.sql(
            "SELECT record & 1099511627775, review_id, text, product, source, coalesce(stars_given, stars), "
            "coalesce(stated_published_at, published_at) FROM review"
        )
    }
    names = ("id", "text", "product", "source", "stars", "published_at")
    for offset, (_, wanted) in zip(odd_offsets, ACCEPTED.values(), strict=True):
        found = dict(zip(names, stored[offset], strict=True))
        known = {name: value for name, value in wanted.items() if name != "published_at" or value is not None}
        assert found == found | {"id": "1"} | known
    assert made.sql("SELECT count(*) FROM prediction") == [(totals.accepted,)]


def test_a_text_above_the_configured_limit_is_a_dead_letter_and_below_it_a_row(stream: Stream) -> None:
    made = stream(configs=_LARGE)
    text = "ä" * 1_500_000
    at_limit = json.dumps({"id": "1", "text": text}, ensure_ascii=False).encode()
    made.publish([at_limit, at_limit + b" "])

    made.consume(max_message_bytes=len(at_limit))

    assert made.sql("SELECT text FROM review") == [(text,)]
    assert _letters(made) == {1: ("too_long", at_limit[:65_536])}  # its beginning alone is kept


def test_the_same_id_twice_is_kept_twice_and_the_newer_event_is_current(stream: Stream) -> None:
    made = stream(partitions=2)
    times = ["2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z", "2026-01-01T00:00:00Z"]
    made.publish([_good("same", f"version {moment}", published_at=moment) for moment in times])
    made.publish([_good("same", "elsewhere", published_at="2026-01-02T12:00:00Z")], partition=1)
    made.publish([_good("tie", "first", published_at=times[0])], partition=1)
    made.publish([_good("tie", "second", published_at=times[0])], partition=1)

    made.consume(max_wait_seconds=2)

    assert made.sql("SELECT count(*) FROM review WHERE review_id = 'same'") == [(4,)]
    current = made.sql("SELECT review_id, text FROM scored_reviews ORDER BY review_id")
    assert current == [("same", f"version {times[1]}"), ("tie", "second")]


def test_of_two_versions_of_one_second_the_one_that_was_published_later_is_current(stream: Stream) -> None:
    made = stream(partitions=2)
    second = "2026-01-02T00:00:00Z"  # publishers without keys send versions to any partition
    made.publish([_good("r1", "Lovely.", published_at=second)], partition=1, timestamp_ms=_an_hour_ago())
    made.publish([_good("r1", "Shrank.", published_at=second)], partition=0)
    made.consume()
    assert made.sql("SELECT text FROM scored_reviews") == [("Shrank.",)]


def test_a_review_of_a_time_to_come_gets_kafkas_time_and_gives_way_to_what_comes_later(
    stream: Stream,
) -> None:
    made = stream()
    kafka_ms = _an_hour_ago()
    made.publish([_good("r1", "Lovely.", published_at="2106-02-07T06:28:15Z")], timestamp_ms=kafka_ms)
    made.publish([_good("r1", "Shrank.")])
    made.consume()
    assert made.sql("SELECT text, stated_published_at FROM scored_reviews") == [("Shrank.", None)]
    stated = made.sql("SELECT published_at, stated_published_at FROM review WHERE text = 'Lovely.'")
    kafka_time = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=kafka_ms)
    assert stated == [(kafka_time, datetime(2106, 2, 7, 6, 28, 15, tzinfo=UTC))]


def test_a_message_without_a_time_has_the_time_of_its_record(stream: Stream) -> None:
    made = stream(configs={"retention.ms": "-1"})
    made.publish([_good("1")], timestamp_ms=1_700_000_000_123)
    made.consume()
    moment = datetime.fromtimestamp(1_700_000_000, UTC).replace(microsecond=123_000)
    assert made.sql("SELECT published_at FROM review") == [(moment,)]


def test_a_record_time_beyond_every_calendar_is_a_dead_letter_unless_the_message_has_one(
    stream: Stream,
) -> None:
    made = stream(configs={"message.timestamp.after.max.ms": str(2**63 - 1)})
    beyond = 300_000_000_000_000
    made.publish([_good("1"), _good("2", published_at="2026-01-01T00:00:00Z")], timestamp_ms=beyond)
    made.consume(breaker=_OFF)
    assert _letters(made) == {0: ("bad_timestamp", _good("1"))}
    assert made.sql("SELECT review_id FROM review") == [("2",)]


def _an_hour_ago() -> int:
    return int((time.time() - 3600) * 1000)


class _NotUtf8(str):
    """A header's name that kafka-python sends as bytes that are not UTF-8."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return b"\xff\xfe"


def test_a_header_name_that_is_not_utf8_does_not_stop_its_partition(stream: Stream) -> None:
    made = stream()
    made.publish([_good("1")])
    producer = KafkaProducer(bootstrap_servers=made.kafka.bootstrap_servers)
    producer.send(made.topic, _good("2"), headers=[(_NotUtf8("x"), b"1"), (REPLAY_HEADER, b"")]).get(10)
    producer.close()
    made.publish([_good("3")])

    assert made.consume().accepted == 3


def test_a_topic_of_nonsense_stops_the_worker_before_it_stores_the_batch(stream: Stream) -> None:
    made = stream()
    made.publish([message(stars="6")] * 300)
    limits = {"window_messages": 200, "max_invalid_share": 0.9, "max_invalid_run": 0}
    with pytest.raises(StreamError, match=r"the last one: bad_stars.*consumer\.breaker"):
        made.consume(breaker=limits, max_wait_seconds=2)
    assert made.sql("SELECT count(*) FROM dead_letter") == [(0,)]
    assert made.sql("SELECT next_offset FROM stream_partition") == [(0,)]

    assert made.consume(breaker=_OFF).dead_letters == 300  # and it goes on when it is told to


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd", None])
def test_a_publisher_may_compress_as_it_likes(stream: Stream, codec: str | None) -> None:
    made = stream()
    producer = KafkaProducer(bootstrap_servers=made.kafka.bootstrap_servers, compression_type=codec)
    for number in range(100):
        producer.send(made.topic, _good(str(number), "so good " * 20))
    producer.close()
    assert made.consume().accepted == 100
