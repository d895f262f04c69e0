"""The one transaction: rows and positions move together, and only for whoever expects the right offset."""

import math
import threading
from datetime import UTC, datetime

import numpy as np
import pytest
from sqlalchemy import text

from reviews.adapter import AdapterVersion
from reviews.dead_letter import DeadLetter
from reviews.errors import ReviewLoopError
from reviews.prediction import Prediction
from reviews.stream_records import KeptEmbedding, PartitionRange, ScoredReview
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.stream.partitions import PartitionStore
from storage.stream.review_writer import ReviewWriter
from tests.scored import scored_review

NOW = datetime(2026, 1, 1, tzinfo=UTC)
VERSION = "sentiment-0123456789ab"
ANSWER = Prediction(
    "sentiment", "good", 0.75, (0.25, 0.75), 0.5, 0.56, truncated=False, adapter_version=VERSION
)


@pytest.fixture
def writer(store: Database) -> ReviewWriter:
    AdapterStore(store).add(
        AdapterVersion(VERSION, "sentiment", ("bad", "good"), "base", None, "0" * 64), {"a": b""}
    )
    for partition in range(3):
        PartitionStore(store).register("cluster", "reviews", "topic", partition, 0)
    return ReviewWriter(store)


def _scored(
    offset: int,
    text_: str = "fine",
    *,
    product: str | None = None,
    source: str | None = None,
    published_at: datetime = NOW,
    predictions: tuple[Prediction, ...] = (ANSWER,),
    **extras: object,
) -> ScoredReview:
    made = (offset, f"r{offset}", text_, product, source, None, published_at, NOW, predictions)
    return scored_review(*made, **extras)


def _letter(offset: int) -> DeadLetter:
    return DeadLetter(offset, "parse", "not_json", "no", b"\x00\xff", None, NOW)


def _rows(store: Database, query: str) -> list[tuple]:
    with store.begin() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def test_reviews_predictions_and_dead_letters_land_with_the_offset(store, writer):
    assert writer.write([PartitionRange(1, 0, 3, [_scored(0), _scored(2)], [_letter(1)])]).lost == frozenset()
    assert _rows(store, "SELECT next_offset FROM stream_partition WHERE id = 1") == [(3,)]
    assert _rows(store, "SELECT kafka_offset, label, probabilities FROM scored_reviews ORDER BY 1") == [
        (0, "good", [0.25, 0.75]),
        (2, "good", [0.25, 0.75]),
    ]
    assert _rows(store, "SELECT kafka_offset, raw, state FROM dead_letters") == [(1, b"\x00\xff", "waiting")]


def test_embeddings_and_shadows_answers_land_with_their_reviews_and_only_with_them(store, writer):
    vector = np.array([1.5, -2.25, 65504], "<f2").tobytes()
    kept = KeptEmbedding("sentiment", VERSION, "audit", vector)
    full = _scored(1, kept=(kept,), shadows=(ANSWER._replace(label="shadow"),))
    writer.write([PartitionRange(1, 0, 2, [_scored(0), full])])
    again = _scored(0, kept=full.kept, shadows=full.shadows)
    assert writer.write([PartitionRange(1, 0, 1, [again])]).lost == {1}
    assert _rows(store, "SELECT record & 1099511627775, task, reason, vector FROM embedding") == [
        (1, "sentiment", "audit", vector)
    ]
    assert _rows(
        store, "SELECT record & 1099511627775, label, reason, probabilities FROM prediction_history"
    ) == [(1, "shadow", "shadow", [0.25, 0.75])]
    assert _rows(store, "SELECT DISTINCT label FROM scored_reviews") == [("good",)]


def test_a_range_that_somebody_else_stored_is_left_out_and_the_others_land(store, writer):
    writer.write([PartitionRange(2, 0, 1, [_scored(0)])])
    written = writer.write(
        [PartitionRange(1, 0, 1, [_scored(0)]), PartitionRange(2, 0, 2, [_scored(0), _scored(1)])]
    )
    assert written.lost == {2}
    assert [part.partition_id for part in written.ranges] == [1]
    assert _rows(store, "SELECT record FROM review ORDER BY record") == [(1 << 40,), (2 << 40,)]


def test_nothing_moves_when_a_row_cannot_be_written(store, writer):
    unknown = ANSWER._replace(adapter_version="nobody")
    with pytest.raises(ReviewLoopError, match="not registered"):
        writer.write([PartitionRange(1, 0, 1, [_scored(0, predictions=(unknown,))])])
    assert _rows(store, "SELECT sum(next_offset), (SELECT count(*) FROM review) FROM stream_partition") == [
        (0, 0)
    ]


@pytest.mark.parametrize(
    "moment", [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)]
)
def test_the_first_and_the_last_year_come_back_as_they_went(store, writer, moment):
    writer.write([PartitionRange(1, 0, 1, [_scored(0, published_at=moment)])])
    assert _rows(store, "SELECT published_at FROM scored_reviews") == [(moment,)]


@pytest.mark.parametrize(
    "body", ["\t\\N\n\\.\r'; DROP TABLE review; --", "\x01\x1f\x7f", "😀 \u202e é", "x" * 3_000_000]
)
def test_any_text_comes_back_as_it_went(store, writer, body):
    writer.write([PartitionRange(1, 0, 1, [_scored(0, body, product=body[:500], source=body[:500])])])
    assert _rows(store, "SELECT text, product, source FROM scored_reviews") == [
        (body, body[:500], body[:500])
    ]


def test_predictions_of_many_labels_and_edge_values_come_back(store, writer):
    answer = ANSWER._replace(probabilities=tuple([0.0] * 99 + [1.0]), entropy=0.0, margin=1.0, truncated=True)
    writer.write([PartitionRange(1, 0, 1, [_scored(0, predictions=(answer, answer._replace(task="tone")))])])
    rows = _rows(
        store, "SELECT task, probabilities, entropy, margin, truncated FROM scored_reviews ORDER BY task"
    )
    assert rows == [(task, [0.0] * 99 + [1.0], 0.0, 1.0, True) for task in ("sentiment", "tone")]
    assert math.isclose(sum(rows[0][1]), 1)


def test_two_writers_that_meet_in_crossed_order_neither_wait_for_ever_nor_write_twice(store, writer):
    other = ReviewWriter(store)
    start = threading.Barrier(2)
    lost: list[frozenset[int]] = []

    def work(mine: ReviewWriter, order: tuple[int, ...]) -> None:
        start.wait()
        for offset in range(30):
            ranges = [PartitionRange(part, offset, offset + 1, [_scored(offset)]) for part in order]
            lost.append(mine.write(ranges).lost)

    threads = [
        threading.Thread(target=work, args=(writer, (1, 2, 3))),
        threading.Thread(target=work, args=(other, (3, 2, 1))),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(lost) == 60
    assert _rows(store, "SELECT count(*) FROM review") == [(90,)]
    assert _rows(store, "SELECT DISTINCT next_offset FROM stream_partition") == [(30,)]
