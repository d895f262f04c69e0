"""Pages of reviews, one review and what is like it, on a real PostgreSQL."""

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest
from sqlalchemy import event, make_url, text

from benchmarks.million import ADAPTERS, fill_database
from reviews.dead_letter import DeadLetter
from reviews.prediction import Prediction
from reviews.stream_records import KeptEmbedding, PartitionRange
from storage.database import Database
from storage.labels.store import LabelStore
from storage.queries.filters import ReviewFilter
from storage.queries.overview import OverviewStore
from storage.queries.review_history import find_history
from storage.queries.review_pages import ReviewPlace, find_page
from storage.queries.reviews import find_reviews
from storage.queries.similar import find_similar
from storage.queries.text_index import create_text_index
from storage.stream.partitions import PartitionStore
from storage.stream.review_writer import ReviewWriter
from tests.integration.queued_reviews import LABELS, TASK, store_reviews
from tests.scored import scored_review

_MOST_ROWS_READ_WHOLE = 1_000
_VERSION = "sentiment-0123456789ab"
_FILTERS: tuple[dict[str, Any], ...] = (
    {},
    {"label": "positive"},
    {"product": "even"},
    {"text": "number 1"},
    {"text": "number 1", "product": "odd"},
    {"text": "nothing"},
    {"uncertain": True},
)


@pytest.fixture
def filled(store: Database) -> Database:
    """60 reviews scored in three moments, every third of which got a second version."""
    for product, numbers in (("even", range(0, 60, 2)), ("odd", range(1, 60, 2)), ("even", range(0, 60, 6))):
        texts = [f"Text number {number}." for number in numbers]
        store_reviews(store, texts, [f"r{number}" for number in numbers], product=product)
    return store


def _walk(database: Database, length: int, **wanted: Any) -> list[str]:
    """The ids of all pages; each page but the last is full, or says that it searched."""
    found: list[str] = []
    after: ReviewPlace | None = None
    while True:
        page = find_page(database, ReviewFilter(task=TASK, limit=length, **wanted), after)
        assert len(page.rows) <= length
        assert page.end is None or len(page.rows) == length or page.searched
        found += [row["review_id"] for row in page.rows]
        if page.end is None:
            return found
        after = page.end


@pytest.mark.parametrize("is_indexed", [False, True])
def test_pages_show_every_match_once_in_order(
    filled: Database, monkeypatch: pytest.MonkeyPatch, is_indexed: bool
) -> None:
    monkeypatch.setattr("storage.queries.review_pages.SEARCHED_TEXTS", 7)
    monkeypatch.setattr("storage.queries.reviews._NEWEST", 10)
    if is_indexed:
        create_text_index(filled)
    for wanted, length in itertools.product(_FILTERS, (1, 4, 50)):
        whole = find_reviews(filled, ReviewFilter(task=TASK, limit=None, **wanted))
        rows = {(row["scored_at"], row["kafka_offset"]): row["review_id"] for row in whole}
        assert _walk(filled, length, **wanted) == [rows[key] for key in sorted(rows, reverse=True)], wanted


def test_reviews_that_come_meanwhile_move_no_page(filled: Database) -> None:
    first = find_page(filled, ReviewFilter(task=TASK, limit=10))
    expected = find_page(filled, ReviewFilter(task=TASK, limit=10), first.end).rows
    store_reviews(filled, ["new"] * 5)
    assert find_page(filled, ReviewFilter(task=TASK, limit=10), first.end).rows == expected


def test_reviews_are_found_by_what_people_said_of_them(filled: Database) -> None:
    labels = LabelStore(filled)
    for review_id, label in (("r1", "positive"), ("r3", "negative"), ("r5", None)):
        assert labels.answer(review_id, TASK, label, "ann")
    assert sorted(_walk(filled, 5, human="labelled")) == ["r1", "r3"]
    assert _walk(filled, 5, human="differs") == ["r3"]
    assert _walk(filled, 5, human="differs", label="negative") == []


def test_the_history_of_a_review_has_versions_predictions_answers_and_dead_letters(store: Database) -> None:
    store_reviews(store, ["first words", "other"], ["a", "b"])
    LabelStore(store).answer("a", TASK, "negative", "ann")
    store_reviews(store, ["second words"], ["a"])
    (position,) = PartitionStore(store).list_positions()
    now = datetime.now(UTC)
    raws = [b'{"id": "a", "text": 1}', b'{"id": "ab"}', b'{"text": "\\"a\\""}']
    letters = [
        DeadLetter(
            position.next_offset + place, "parse", "bad_text", "The text is a number.", raw, None, now, 0
        )
        for place, raw in enumerate(raws)
    ]
    end = position.next_offset + len(raws)
    part = PartitionRange(position.partition_id, position.next_offset, end, [], letters)
    assert not ReviewWriter(store).write([part]).lost

    found = find_history(store, "a")
    assert found is not None
    assert [version.text for version in found.versions] == ["second words", "first words"]
    assert {said.record for said in found.predictions} == {version.record for version in found.versions}
    assert [(answer.record, answer.label) for answer in found.answers] == [
        (found.versions[1].record, "negative")
    ]
    assert found.consensus == {(found.versions[1].record, TASK): "negative"}
    assert [letter.offset for letter in found.letters] == [position.next_offset]
    assert find_history(store, "nobody's") is None


def test_similar_reviews_are_the_nearest_current_ones_of_the_same_adapter(store: Database) -> None:
    first = store_reviews(store, ["x"], ["first"])[0]
    (position,) = PartitionStore(store).list_positions()
    angles = [0.0, 0.1, 0.5, 1.5, 0.2, 0.05]
    ids = ["own", "near", "middle", "far", "edited", "edited"]
    now = datetime.now(UTC)
    answer = Prediction(TASK, "positive", 0.6, (0.1, 0.3, 0.6), 0.3, 0.8, False, _VERSION)
    rows = [
        scored_review(
            position.next_offset + place, name, name, None, None, None,
            now + timedelta(seconds=place), now, (answer,),
            kept=[KeptEmbedding(TASK, _VERSION, "sample", _vector(angle))],
        )
        for place, (name, angle) in enumerate(zip(ids, angles, strict=True))
    ]  # fmt: skip
    end = position.next_offset + len(rows)
    part = PartitionRange(position.partition_id, position.next_offset, end, rows)
    assert not ReviewWriter(store).write([part]).lost
    own = find_history(store, "own")
    assert own is not None

    found = find_similar(store, TASK, own.versions[0].record, 3)
    assert [review.review_id for review in found.reviews] == ["edited", "near", "middle"]
    assert found.reviews[1].similarity == pytest.approx(np.cos(0.1), abs=1e-3)
    assert found.searched == 5
    LabelStore(store).answer("near", TASK, "positive", "ann")
    unlabelled = find_similar(store, TASK, own.versions[0].record, 3, unlabelled=True)
    assert [review.review_id for review in unlabelled.reviews] == ["edited", "middle", "far"]
    assert find_similar(store, TASK, first) == ([], 0)


def _vector(angle: float) -> bytes:
    return np.array([np.cos(angle), np.sin(angle), 0, 0], "<f2").tobytes()


def test_the_first_record_of_a_moment_is_found_whatever_lies_between(store: Database) -> None:
    store_reviews(store, [f"t{number}" for number in range(40)])
    (position,) = PartitionStore(store).list_positions()
    base = position.partition_id << 40
    start = datetime(2026, 1, 1, tzinfo=UTC)
    with store.begin() as connection:
        moved = "UPDATE review SET received_at = :start + (record & 255) / 4 * interval '1 hour'"
        connection.execute(text(moved), {"start": start})
        # Dead letters are records without a review.
        connection.execute(text("DELETE FROM review WHERE (record & 255) BETWEEN 8 AND 17"))
    hours = [start + timedelta(hours=hour) for hour in range(-1, 12)]
    found = OverviewStore(store, "labels").positions(hours)
    for hour in hours:
        stored = [offset for offset in range(40) if not 8 <= offset <= 17]
        later = [offset for offset in stored if start + timedelta(hours=offset // 4) >= hour]
        first = found[hour][position.partition_id] - base
        assert [offset for offset in stored if offset >= first] == later, hour


def test_no_statement_of_the_pages_reads_a_large_table_whole(database: str, store: Database) -> None:
    address = make_url(database).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address, autocommit=True) as connection:
        fill_database(connection, 40_000)
        _fill_labels(connection)
    statements: dict[str, Any] = {}

    def note(_: Any, __: Any, statement: str, values: Any, *___: Any) -> None:
        if statement.lstrip().startswith(("SELECT", "WITH")) and "set_config" not in statement:
            statements[statement] = values

    event.listen(store.engine, "before_cursor_execute", note)
    _look_at_everything(store)
    event.remove(store.engine, "before_cursor_execute", note)
    assert len(statements) > 20
    with store.begin() as connection:
        large = dict(
            connection.exec_driver_sql(
                f"SELECT relname, reltuples FROM pg_class WHERE reltuples > {_MOST_ROWS_READ_WHOLE} "
                "AND relkind = 'r'"
            ).fetchall()
        )
        assert {"review", "prediction", "label", "label_task", "embedding", "dead_letter"} <= set(large)
        connection.exec_driver_sql("SET LOCAL random_page_cost = 1.1")  # as the queries of rows set it
        for statement, values in statements.items():
            plan = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", values).scalar()
            read = [node for node in _nodes(plan[0]["Plan"]) if node["Node Type"] == "Seq Scan"]
            assert not {node["Relation Name"] for node in read} & set(large), statement


def _look_at_everything(store: Database) -> None:
    for wanted in (
        {}, {"label": "negative"}, {"product": "product-9"}, {"source": "web"}, {"uncertain": True},
        {"text": "zuzuzu"}, {"human": "labelled"}, {"human": "differs"}, {"adapter": ADAPTERS[0]},
        {"review_id": "r00000100"}, {"min_confidence": 0.99},
    ):  # fmt: skip
        page = find_page(store, ReviewFilter(task=TASK, limit=20, **wanted))
        find_page(store, ReviewFilter(task=TASK, limit=20, **wanted), page.end)
    assert find_history(store, "r00000100") is not None
    with store.begin() as connection:
        record = connection.exec_driver_sql("SELECT max(record) FROM embedding").scalar()
    assert find_similar(store, TASK, record).searched
    overview = OverviewStore(store, "labels")
    now = datetime.now(UTC)
    days = overview.positions([now - timedelta(days=day) for day in range(14)])
    assert overview.sample(TASK, list(days[min(days)].values()))
    assert overview.totals().records > 40_000
    assert overview.audited(TASK)
    overview.rate(60)
    overview.delays(900)
    overview.gaps()
    overview.queue(TASK, now - timedelta(days=1))


def _fill_labels(connection: "psycopg.Connection[Any]") -> None:
    """Labels, queue items, embeddings and dead letters: enough of each for an index to pay."""
    connection.execute(
        "INSERT INTO label_task (record, task, reason, strategy, priority, state, state_changed_at) "
        "SELECT record, task, CASE record % 4 WHEN 0 THEN 'audit' ELSE 'uncertain' END, 'x', 0.5, "
        "CASE record % 3 WHEN 0 THEN 'open' ELSE 'done' END, scored_at FROM prediction WHERE record % 5 < 4"
    )
    connection.execute(
        "INSERT INTO label (record, task, label, annotator, source, labelled_at, received_at) "
        f"SELECT record, task, '{LABELS[0]}', 'ann', 'terminal', scored_at, scored_at FROM prediction "
        "WHERE record % 3 = 0"
    )
    connection.execute(
        "INSERT INTO embedding (record, task, adapter_id, reason, vector) "
        "SELECT record, task, adapter_id, 'sample', decode(repeat('3c00', 16), 'hex') FROM prediction "
        "WHERE record % 5 = 0"
    )
    connection.execute(
        "INSERT INTO dead_letter (record, stage, error, message, raw, received_at) "
        "SELECT record + 1000000, 'parse', 'not_json', 'x', 'y', received_at FROM review"
    )
    connection.execute("VACUUM ANALYZE")


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)
