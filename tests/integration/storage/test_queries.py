"""Filters and their answers, on a real PostgreSQL: the same as looking at every row."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event, select, text

from reviews.adapter import AdapterVersion
from reviews.prediction import Prediction
from reviews.stream_records import PartitionRange, ScoredReview
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.queries.filters import ReviewFilter
from storage.queries.label_counts import count_labels
from storage.queries.reviews import find_reviews
from storage.queries.text_index import create_text_index, drop_text_index, has_text_index, holds_trigrams
from storage.schema.predictions import UNCERTAIN_MARGIN
from storage.schema.views import scored_reviews
from storage.stream.partitions import PartitionStore
from storage.stream.review_writer import ReviewWriter
from tests.scored import scored_review

START = datetime(2026, 1, 1, tzinfo=UTC)
VERSIONS = ("sentiment-111111111111", "sentiment-222222222222", "topic-333333333333")
FILTERS: tuple[dict[str, Any], ...] = (
    {"task": "sentiment"},
    {"task": "nothing"},
    {"label": "bad"},
    {"label": "nothing"},
    {"product": "p1"},
    {"source": "web"},
    {"adapter": VERSIONS[1]},
    {"adapter": "nothing"},
    {"since": START + timedelta(hours=30)},
    {"until": START + timedelta(hours=60)},
    {"min_confidence": 0.75},
    {"uncertain": True},
    {"text": "WORD 1"},
    {"review_id": "r7"},
)


@pytest.fixture
def filled(store: Database) -> Database:
    """120 records of 100 ids, some published twice, two adapters of one task and one of another."""
    for number, version in enumerate(VERSIONS):
        made = AdapterVersion(version, version.split("-")[0], ("bad", "good"), "base", None, str(number) * 64)
        AdapterStore(store).add(made, {"a": b""})
    PartitionStore(store).register("cluster", "reviews", "topic", 0, 0)
    ReviewWriter(store).write([PartitionRange(1, 0, 120, [_review(offset) for offset in range(120)])])
    with store.begin() as connection:
        spread = "UPDATE prediction SET scored_at = :start + (record & 1023) * interval '1 hour'"
        connection.execute(text(spread), {"start": START})
    return store


def _review(offset: int) -> ScoredReview:
    answers = (_answer(offset, VERSIONS[offset // 60]), _answer(offset + 1, VERSIONS[2]))
    at = START + timedelta(minutes=offset)
    product, source = f"p{offset % 4}", ("web", "app", None)[offset % 3]
    return scored_review(offset, f"r{offset % 100}", f"word {offset}", product, source, None, at, at, answers)


def _answer(number: int, version: str) -> Prediction:
    confidence = 0.5 + (number % 16) / 32  # exact in four bytes
    label = "good" if number % 3 else "bad"
    probabilities = (1 - confidence, confidence) if label == "good" else (confidence, 1 - confidence)
    return Prediction(
        version.partition("-")[0], label, confidence, probabilities, 2 * confidence - 1, 0.5, False, version
    )


def _matches(row: dict[str, Any], wanted: ReviewFilter) -> bool:
    equal = {
        "task": wanted.task,
        "label": wanted.label,
        "product": wanted.product,
        "source": wanted.source,
        "adapter_version": wanted.adapter,
        "review_id": wanted.review_id,
    }
    return (
        all(value is None or row[name] == value for name, value in equal.items())
        and (wanted.since is None or row["scored_at"] >= wanted.since)
        and (wanted.until is None or row["scored_at"] < wanted.until)
        and (wanted.min_confidence is None or row["confidence"] >= wanted.min_confidence)
        and (not wanted.uncertain or row["margin"] < UNCERTAIN_MARGIN)
        and (wanted.text is None or wanted.text.lower() in row["text"].lower())
    )


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["kafka_offset"], row["task"]


def _comparable(database: Database, wanted: ReviewFilter) -> list[tuple[Any, ...]]:
    """The rows, or with a limit their times: the two tasks of a record were scored at the same time."""
    rows = list(find_reviews(database, wanted))
    return sorted(map(_key, rows)) if wanted.limit is None else [(row["scored_at"],) for row in rows]


def test_every_filter_and_every_pair_finds_what_a_look_at_every_row_finds(filled: Database):
    everything = list(find_reviews(filled, ReviewFilter(limit=None)))
    assert len(everything) == 200  # the newer version of each id, for two tasks
    pairs = itertools.combinations(FILTERS, 2)
    for chosen in ({}, *FILTERS, *({**one, **other} for one, other in pairs)):
        wanted = ReviewFilter(**chosen, limit=None)
        expected = sorted(_key(row) for row in everything if _matches(row, wanted))
        assert sorted(map(_key, find_reviews(filled, wanted))) == expected, chosen
        counted = count_labels(filled, wanted)
        assert (sum(found.reviews for found in counted.counts), counted.share) == (len(expected), 1), chosen


def test_very_many_reviews_are_counted_range_after_range_exactly_or_by_a_random_part(
    filled: Database, monkeypatch: pytest.MonkeyPatch
):
    few = count_labels(filled, ReviewFilter())
    for name, value in {
        "COUNTED_AT_ONCE": 1,
        "_STEP_RECORDS": 7,
        "_DRAWN_TOGETHER": 2,
        "LOOKED_AT": 10,
    }.items():
        monkeypatch.setattr(f"storage.queries.label_counts.{name}", value)
    shares: list[float] = []
    assert count_labels(filled, ReviewFilter(), exact=True, report=shares.append) == few
    assert len(shares) > 5
    assert shares == sorted(shares)
    assert shares[-1] == 1
    estimated = count_labels(filled, ReviewFilter())
    assert estimated.share < 1
    whole, about = (sum(row.reviews for row in found.counts) for found in (few, estimated))
    assert 0.3 * whole < about < 3 * whole


def test_a_limit_keeps_the_latest_scored(filled: Database):
    for chosen in ({}, *FILTERS):
        whole = [row["scored_at"] for row in find_reviews(filled, ReviewFilter(**chosen, limit=None))]
        latest = [row["scored_at"] for row in find_reviews(filled, ReviewFilter(**chosen, limit=7))]
        assert latest == whole[:7] == sorted(latest, reverse=True), chosen


def test_a_search_of_very_many_texts_says_where_it_gave_up_and_goes_on_from_there(
    filled: Database, monkeypatch: pytest.MonkeyPatch
):
    wanted = ReviewFilter(text="word", limit=None)
    few = [row["scored_at"] for row in find_reviews(filled, wanted)]
    for name, value in {"COUNTED_AT_ONCE": 1, "SEARCHED_AT_ONCE": 10, "SEARCHED_AT_MOST": 30}.items():
        monkeypatch.setattr(f"storage.queries.reviews.{name}", value)
    assert [row["scored_at"] for row in find_reviews(filled, wanted)] == few
    found, moments, latest = list[object](), list[datetime](), wanted
    for _ in range(len(few)):
        begun = len(moments)
        found += [row["scored_at"] for row in find_reviews(filled, latest, given_up=moments.append)]
        if len(moments) == begun:
            break
        latest = replace(wanted, until=moments[-1])
    assert len(moments) > 2
    assert moments == sorted(moments, reverse=True)
    assert found == few
    nothing = ReviewFilter(text="nothing at all", limit=1)
    assert list(find_reviews(filled, nothing, given_up=moments.append)) == []
    assert moments[-1] == moments[0]


def test_the_index_on_texts_changes_no_answer(filled: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("storage.queries.reviews._NEWEST", 10)
    parts = ("word 1", "WORD", "d 11", "o", "rd", "", "%", "wor_", "nothing", "Ünknown", "word 119")
    wanted = [ReviewFilter(text=part, limit=limit) for part in parts for limit in (3, 20, None)]
    plain = [_comparable(filled, item) for item in wanted]

    assert create_text_index(filled)
    assert not create_text_index(filled)

    assert [_comparable(filled, item) for item in wanted] == plain
    drop_text_index(filled)
    with filled.begin() as connection:
        assert not has_text_index(connection)


def test_the_index_on_texts_is_used_for_rare_words(filled: Database):
    create_text_index(filled)
    query = select(scored_reviews.c.text).where(holds_trigrams("WORD 77"))
    with filled.begin() as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        plan = connection.execute(
            text(f"EXPLAIN {query.compile(connection, compile_kwargs={'literal_binds': True})}")
        )
        assert "review_text_idx" in "\n".join(row[0] for row in plan)


def test_texts_are_found_by_indexes_alone(filled: Database):
    _add_many(filled, 30_000)
    create_text_index(filled)
    for part, number, is_rare in (("WORD", 3, False), ("word 77", 2, True), ("nothing", 0, True)):
        with _plans(filled) as plans:
            assert len(list(find_reviews(filled, ReviewFilter(text=part, limit=3)))) == number
        plan = "\n".join(plans)
        assert "Seq Scan on review" not in plan, part
        assert "Seq Scan on prediction" not in plan, part
        assert "Scan Backward using prediction_scored_idx" in plan, part
        assert ("Scan on review_text_idx" in plan) is is_rare, part


def _add_many(database: Database, count: int) -> None:
    """Reviews that were scored before the others; long products make their table as large as a real one."""
    review = (
        "INSERT INTO review (record, review_id, text, product, published_at, received_at) SELECT "
        "(1::bigint << 40) + 1000 + n, 'more-' || n, 'plain words', rpad('p', 1000, '.'), :start, :start "
    )
    prediction = (
        "INSERT INTO prediction (record, task, adapter_id, label, confidence, probabilities, margin, "
        "entropy, truncated, scored_at) SELECT (1::bigint << 40) + 1000 + n, 'sentiment', 1, 'good', 0.75, "
        "'{0.25,0.75}', 0.5, 0.5, false, :start - n * interval '1 minute' "
    )
    with database.begin() as connection:
        for insert in (review, prediction):
            many = text(insert + "FROM generate_series(1, :count) n")
            connection.execute(many, {"start": START, "count": count})
        connection.execute(text("ANALYZE review, prediction"))


@contextmanager
def _plans(database: Database) -> Iterator[list[str]]:
    """How PostgreSQL runs each query of the block, as it is asked with its values."""
    found: list[str] = []

    def explain(connection: Connection, _: object, statement: str, values: Any, *__: object) -> None:
        if statement.startswith("SELECT") and "set_config" not in statement:
            found.extend(connection.exec_driver_sql(f"EXPLAIN {statement}", values).scalars())

    event.listen(database.engine, "before_cursor_execute", explain)
    try:
        yield found
    finally:
        event.remove(database.engine, "before_cursor_execute", explain)


def test_the_answer_has_the_public_columns_alone(filled: Database):
    row = next(find_reviews(filled, ReviewFilter()))
    assert "adapter_id" not in row
    assert list(row)[:3] == ["review_id", "text", "product"]
