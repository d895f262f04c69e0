"""Every filter of the queries on a real PostgreSQL, and values that look like SQL stay values."""

from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from reviews.adapter import AdapterVersion
from reviews.dead_letter import DeadLetter
from reviews.prediction import Prediction
from reviews.stream_records import PartitionRange, ScoredReview
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.queries.dead_letters import LetterFilter, count_dead_letters, find_dead_letters
from storage.queries.filters import ReviewFilter
from storage.queries.label_counts import count_labels
from storage.queries.reviews import find_reviews
from storage.settings import DatabaseSettings
from storage.stream.partitions import PartitionStore
from storage.stream.review_writer import ReviewWriter
from tests.scored import scored_review

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_HOSTILE = ["'; DROP TABLE review; --", "%s", "%(x)s", ":x", "$1", "\\", "{0}", '"', "a'b", "%", "_", "*"]
_VERSIONS = ("sentiment-000000000001", "sentiment-000000000002", "topic-000000000003")


def _version(name: str) -> AdapterVersion:
    return AdapterVersion(
        name, name.partition("-")[0], ("negative", "positive"), "none", None, name[-12:] * 5
    )


def _review(offset: int, review_id: str, text: str, prediction: dict[str, Any], **more: Any) -> ScoredReview:
    values = {"label": "positive", "confidence": 0.9, "margin": 0.8, "task": "sentiment", **prediction}
    answer = Prediction(
        values["task"], values["label"], values["confidence"], (0.1, 0.9), values["margin"], 0.3, False,
        values.get("version", _VERSIONS[0]),
    )  # fmt: skip
    return scored_review(
        offset, review_id, text, more.get("product"), more.get("source"), None,
        more.get("published_at", _NOW), _NOW, (answer,),
    )  # fmt: skip


@pytest.fixture
def store(database: str) -> Iterator[Database]:
    """A migrated database with adapters of two tasks and one stream."""
    opened = Database(DatabaseSettings(url=SecretStr(database)))
    for name in _VERSIONS:
        AdapterStore(opened).add(_version(name), {"adapter_config.json": b"{}"})
    PartitionStore(opened).register("cluster", "reviews", "topic-id", 3, 0)
    yield opened
    opened.close()


def _store(database: Database, reviews: list[ScoredReview], letters: list[DeadLetter] | None = None) -> None:
    end = 1 + max(item.offset for item in [*reviews, *(letters or [])])
    (position,) = PartitionStore(database).list_positions()
    part = PartitionRange(position.partition_id, position.next_offset, end, reviews, letters or [])
    assert ReviewWriter(database).write([part]).lost == frozenset()


def _ids(database: Database, **wanted: Any) -> list[str]:
    return sorted(row["review_id"] for row in find_reviews(database, ReviewFilter(**wanted)))


def test_each_filter_keeps_what_it_names_and_nothing_else(store: Database) -> None:
    _store(
        store,
        [
            _review(0, "plain", "nothing special", {}),
            _review(1, "task", "x", {"task": "topic", "version": _VERSIONS[2]}),
            _review(2, "label", "x", {"label": "negative"}),
            _review(3, "product", "x", {}, product="lamp"),
            _review(4, "source", "x", {}, source="web"),
            _review(5, "sure", "x", {"confidence": 0.99}),
            _review(6, "unsure", "x", {"margin": 0.1}),
            _review(7, "adapter", "x", {"version": _VERSIONS[1]}),
            _review(8, "text", "The BATTERY of it", {}),
        ],
    )
    assert _ids(store, task="topic") == ["task"]
    assert _ids(store, label="negative") == ["label"]
    assert _ids(store, product="lamp") == ["product"]
    assert _ids(store, source="web") == ["source"]
    assert _ids(store, min_confidence=0.95) == ["sure"]
    assert _ids(store, uncertain=True) == ["unsure"]
    assert _ids(store, adapter=_VERSIONS[1]) == ["adapter"]
    assert _ids(store, text="battery") == ["text"]
    assert _ids(store, review_id="plain") == ["plain"]
    assert _ids(store, product="lamp", label="negative") == []
    assert len(_ids(store)) == 9
    assert len(_ids(store, limit=4)) == 4
    assert count_labels(store, ReviewFilter(task="sentiment")).counts == [
        ("sentiment", "positive", 7), ("sentiment", "negative", 1),
    ]  # fmt: skip
    assert [(task, reviews) for task, _, reviews in count_labels(store, ReviewFilter()).counts] == [
        ("sentiment", 7), ("sentiment", 1), ("topic", 1),
    ]  # fmt: skip
    assert count_labels(store, ReviewFilter(text="battery")) == ([("sentiment", "positive", 1)], 1.0)
    tested = {"task", "label", "product", "source", "min_confidence", "uncertain", "adapter", "text"}
    assert {field.name for field in fields(ReviewFilter)} == tested | {
        "review_id", "limit", "since", "until", "human", "attributes",
    }  # fmt: skip


def test_since_is_included_and_until_is_not(store: Database) -> None:
    _store(store, [_review(0, "a", "x", {})])
    _store(store, [_review(1, "b", "x", {})])
    with store.begin() as connection:
        moments = dict(
            connection.exec_driver_sql(
                "SELECT r.review_id, p.scored_at FROM prediction p JOIN review r USING (record)"
            ).fetchall()
        )
    assert _ids(store, since=moments["b"]) == ["b"]
    assert _ids(store, until=moments["b"]) == ["a"]
    assert _ids(store, since=moments["b"] + timedelta(microseconds=1)) == []
    newest_first = [row["review_id"] for row in find_reviews(store, ReviewFilter())]
    assert newest_first == ["b", "a"]


def test_only_the_newest_version_of_a_review_is_found_also_by_what_the_old_one_said(store: Database) -> None:
    old, new = _NOW, _NOW + timedelta(days=1)
    _store(
        store,
        [
            _review(0, "a", "new words", {"label": "positive"}, published_at=new),
            _review(1, "a", "old words", {"label": "negative"}, published_at=old),
        ],
    )
    assert [row["text"] for row in find_reviews(store, ReviewFilter())] == ["new words"]
    assert _ids(store, label="negative") == []
    assert _ids(store, text="old") == []


@pytest.mark.parametrize("hostile", _HOSTILE)
def test_a_value_that_looks_like_sql_or_a_pattern_finds_itself_alone(store: Database, hostile: str) -> None:
    _store(
        store,
        [
            _review(0, hostile, f"so {hostile} so", {}, product=hostile, source=hostile),
            _review(1, "other", "another text", {}, product="other", source="other"),
        ],
        [DeadLetter(2, "parse", hostile, "No.", b"raw", None, _NOW)],
    )
    for name in ("review_id", "product", "source", "text"):
        assert _ids(store, **{name: hostile}) == [hostile], name
    for name in ("task", "label", "adapter"):
        assert _ids(store, **{name: hostile}) == [], name
    (letter,) = find_dead_letters(store, LetterFilter(error=hostile))
    assert letter["kafka_offset"] == 2
    assert count_dead_letters(store, LetterFilter(error=hostile)) == {hostile: 1}
    for name in ("stage", "state", "topic"):
        assert list(find_dead_letters(store, LetterFilter(**{name: hostile}))) == [], name
    assert len(_ids(store)) == 2  # nothing was dropped


def test_a_filter_of_dead_letters_keeps_what_it_names_and_nothing_else(store: Database) -> None:
    later = _NOW + timedelta(hours=1)
    letters = [
        DeadLetter(0, "parse", "not_json", "No.", b"a", None, _NOW),
        DeadLetter(1, "score", "model_failed", "No.", None, b"k", later),
    ]
    _store(store, [], letters)

    def found(**wanted: Any) -> list[int]:
        return [row["kafka_offset"] for row in find_dead_letters(store, LetterFilter(**wanted))]

    assert found() == [1, 0]  # the latest first
    assert found(limit=1) == [1]
    assert found(error="not_json") == [0]
    assert found(stage="score") == [1]
    assert found(topic="reviews") == [1, 0]
    assert found(topic="other") == []
    assert found(since=later) == [1]
    assert found(until=later) == [0]
    assert found(state="discarded") == []
    assert found(state=None) == [1, 0]
    assert found(place=("reviews", 3, 1)) == [1]
    assert found(place=("reviews", 0, 1)) == []
    assert count_dead_letters(store, LetterFilter()) == {"model_failed": 1, "not_json": 1}
