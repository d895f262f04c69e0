"""Candidates of a real PostgreSQL: never an audit item, never one with an answer, never an old version."""

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import insert, make_url, text

from reviews.adapter import AdapterVersion
from reviews.errors import ReviewLoopError, WrongUse
from reviews.prediction import Prediction
from reviews.slices import SliceShares, slice_of
from reviews.stream_records import PartitionRange, ScoredReview
from storage import record_ranges
from storage.adapters.registry import AdapterStore
from storage.copying import BIGINT, INTEGER, REAL, copy_columns
from storage.database import Database
from storage.learning import pool as pool_module
from storage.learning.pool import audit_condition, read_audit_pool, read_embeddings, read_pool
from storage.learning.texts import read_known_texts, read_texts
from storage.migrate import upgrade
from storage.schema.annotation_queue import label_task
from storage.schema.labels import label
from storage.schema.predictions import embedding
from storage.settings import DatabaseSettings
from storage.stream.partitions import PartitionStore
from storage.stream.review_writer import ReviewWriter
from tests.scored import scored_review
from trainer.selection.audit_draw import draw_chances
from trainer.selection.reading import choose_for_run, load_pool
from trainer.settings import SelectionSettings

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = START + timedelta(days=10)
SHARES = SliceShares(audit=0.2)
LABELS = ("negative", "neutral", "positive")
OLD, ACTIVE, FOREIGN, OTHER = (
    "sentiment-111111111111",
    "sentiment-222222222222",
    "sentiment-333333333333",
    "topic-444444444444",
)
ADAPTERS = {
    OLD: ("positive", "negative", "neutral"),  # the same labels in another order
    ACTIVE: LABELS,
    FOREIGN: ("bad", "good"),
    OTHER: ("food", "room"),
}
REVIEWS = 400
ROWS_TO_START_AT = 1 << 40


@pytest.fixture(scope="module")
def store(database_url: str) -> Iterator[Database]:
    """One database for the module: its tests only read, but for those that take back what they write."""
    name, url = f"test_{secrets.token_hex(6)}", make_url(database_url)
    address = url.set(drivername="postgresql").render_as_string(hide_password=False)
    own = url.set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(address, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        opened = Database(DatabaseSettings(url=SecretStr(own)))
        try:
            upgrade(opened)
            _fill(opened)
            yield opened
        finally:
            opened.close()
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _fill(store: Database) -> None:
    registry = AdapterStore(store)
    for number, (version, labels) in enumerate(ADAPTERS.items()):
        task = version.split("-")[0]
        registry.add(AdapterVersion(version, task, labels, "base", None, str(number) * 64), {"a": b""})
    for version in (OLD, ACTIVE):
        before = registry.active("sentiment")
        made = next(item for item in registry.list_versions() if item.version == version)
        registry.activate(made, expected=before, decided_by="test", reason="test")
    PartitionStore(store).register("cluster", "reviews", "topic", 0, 0)
    reviews = [_review(offset) for offset in range(REVIEWS)]
    ReviewWriter(store).write([PartitionRange(1, 0, REVIEWS, reviews)])
    with store.begin() as connection:
        connection.execute(insert(label), list(_answers()))
        connection.execute(insert(label_task), list(_queue()))
        connection.execute(insert(embedding), list(_embeddings()))


def _review(offset: int) -> ScoredReview:
    """Offsets from 360 on are published again, as edits of the first forty."""
    at = START + timedelta(hours=offset // 2)
    word = chr(ord("a") + offset % 26) * (1 + offset // 26)
    body = f"{word} number {offset} says {word} for {offset} times {word}"
    if offset in {201, 202}:  # word for word
        body = _review(200).review.message.text
    version = (OLD, ACTIVE, FOREIGN)[min(offset % 10, 2) if offset % 10 < 3 else 1]
    answers = (_answer(version, offset), _answer(OTHER, offset))
    return scored_review(offset, f"r{offset % 360}", body, None, None, None, at, at, answers)


def _answer(version: str, offset: int) -> Prediction:
    labels = ADAPTERS[version]
    negative = 1 / 4 + (offset % 5) / 16  # exact in four bytes
    rest = (1 - negative) / (len(labels) - 1)
    shares = tuple(negative if name == "negative" else rest for name in labels)
    return Prediction(version.split("-", maxsplit=1)[0], labels[0], 0.5, shares, 0.1, 0.5, False, version)


def _record(offset: int) -> int:
    return ROWS_TO_START_AT + offset


def _answers() -> Iterator[dict[str, Any]]:
    said = {"annotator": "ann", "source": "cli", "labelled_at": NOW, "received_at": NOW}
    for offset in range(40, 60):
        yield {"record": _record(offset), "task": "sentiment", "label": "positive", **said}
    yield {"record": _record(60), "task": "sentiment", "label": None, **said}  # unsure is an answer
    yield {"record": _record(61), "task": "topic", "label": "food", **said}  # another task's
    yield {"record": _record(5), "task": "sentiment", "label": "positive", **said}  # of the version before


def _queue() -> Iterator[dict[str, Any]]:
    states = {100: "open", 101: "done", 102: "skipped", 103: "expired"}
    for offset, state in states.items():
        yield {
            "record": _record(offset), "task": "sentiment", "reason": "uncertain", "strategy": "margin",
            "priority": 1.0, "state": state, "queued_at": START + timedelta(minutes=offset),
        }  # fmt: skip
    yield {
        "record": _record(104), "task": "topic", "reason": "uncertain", "strategy": "margin",
        "priority": 1.0, "state": "open", "queued_at": START,
    }  # fmt: skip


def _embeddings() -> Iterator[dict[str, Any]]:
    for offset in range(150, 250):
        adapter_id = 1 if offset % 10 == 0 else 2
        vector = np.array([offset, -1, 0.5, 2], "<f2").tobytes()
        yield {
            "record": _record(offset), "task": "sentiment", "adapter_id": adapter_id, "reason": "sample",
            "vector": vector,
        }  # fmt: skip


def _is_current(offset: int) -> bool:
    return offset >= 40


def _expected() -> list[int]:
    """The same, row by row: current, by a known adapter, unanswered, not queued, not audited."""
    answered = {*range(40, 61), 100, 101, 102}
    return [
        offset
        for offset in range(REVIEWS)
        if _is_current(offset)
        and offset % 10 != 2
        and offset not in answered
        and slice_of(f"r{offset % 360}", SHARES) != "audit"
    ]


def test_the_pool_is_what_looking_at_every_row_finds(store):
    pool = read_pool(store, "sentiment", SHARES)
    assert (pool.records - ROWS_TO_START_AT).tolist() == _expected()
    assert pool.labels == LABELS
    assert pool.records.dtype == np.int64
    assert pool.probabilities.dtype == np.float32
    at = [int(_review(offset).review.event_time.timestamp()) for offset in _expected()]
    assert pool.published_at.tolist() == at
    assert pool.characters is None


def test_the_lengths_of_texts_are_read_where_they_matter(store):
    costly = SelectionSettings(cost_exponent=1.0)
    pool = load_pool(store, "sentiment", costly, SHARES)
    assert pool.characters is not None
    texts = read_texts(store, pool.records)
    assert pool.characters.tolist() == list(map(len, texts))
    assert choose_for_run(store, "sentiment", costly, SHARES, seed=1, now=NOW)


def test_probabilities_stand_in_the_order_of_the_active_adapters_labels(store):
    pool = read_pool(store, "sentiment", SHARES)
    offsets = pool.records - ROWS_TO_START_AT
    assert (offsets % 10 == 0).any()  # those of the adapter with another order
    negative = 1 / 4 + (offsets % 5) / 16
    expected = np.stack([negative, (1 - negative) / 2, (1 - negative) / 2], axis=1)
    assert np.array_equal(pool.probabilities, expected.astype(np.float32))


def test_since_leaves_out_what_was_published_before(store):
    since = START + timedelta(hours=150)
    pool = read_pool(store, "sentiment", SHARES, since)
    assert (pool.records - ROWS_TO_START_AT).tolist() == [o for o in _expected() if o >= 300]


def test_a_task_without_an_active_adapter_is_refused(store):
    with pytest.raises(WrongUse, match="'topic' has no active adapter"):
        read_pool(store, "topic", SHARES)


@pytest.mark.parametrize("share", [0.0, 1e-9, 0.05, 0.3, 0.5, 1 - 1e-12, 1.0])
def test_the_audit_slice_is_the_same_in_sql_and_in_python(store, share):
    ids = [f"r{number}" for number in range(300)] + ["", "ü", "'; --", "a\\000b", "😀", " "]
    rows = "SELECT r.review_id FROM unnest(%(ids)s::text[]) AS r (review_id)"
    with store.begin() as connection:
        query = f"{rows} WHERE {audit_condition(share)}"
        found = set(connection.exec_driver_sql(query, {"ids": ids}).scalars())
    assert found == {id_ for id_ in ids if slice_of(id_, SliceShares(audit=share)) == "audit"}


def test_audit_candidates_are_the_rest_of_the_current_and_unanswered(store):
    columns = read_audit_pool(store, "sentiment", SHARES, START)
    answered = {*range(40, 61), 100, 101, 102}
    expected = [
        offset
        for offset in range(40, REVIEWS)
        if offset not in answered and slice_of(f"r{offset % 360}", SHARES) == "audit"
    ]
    assert (columns.records - ROWS_TO_START_AT).tolist() == expected
    assert columns.review_ids == tuple(f"r{offset % 360}" for offset in expected)
    negative = np.array([1 / 4 + (offset % 5) / 16 for offset in expected])
    said = np.stack([negative, (1 - negative) / 2, (1 - negative) / 2], axis=1)
    said[np.array(expected) % 10 == 2] = 0  # by an adapter with other labels
    np.testing.assert_allclose(columns.probabilities, said)


def test_a_night_audits_rare_labels_more_often_and_says_with_which_weight(store):
    def drawn(even_share: float) -> dict[int, float]:
        settings = SelectionSettings(
            items_per_night=0, audit_items_per_night=10, audit_window_days=10, audit_even_share=even_share
        )
        chosen = choose_for_run(store, "sentiment", settings, SHARES, seed=1, now=NOW)
        return {one.record: one.draw_weight for one in chosen}

    pool = read_audit_pool(store, "sentiment", SHARES, NOW - timedelta(days=10))
    _, weights = draw_chances(pool.probabilities, 10, 0.1)
    known = dict(zip(pool.records.tolist(), weights.tolist(), strict=True))
    even, unequal = drawn(1.0), drawn(0.1)
    assert set(even.values()) == {1.0}
    assert len(set(unequal.values())) > 2
    assert unequal == {record: pytest.approx(known[record]) for record in unequal}


def test_a_review_is_a_candidate_of_one_draw_of_the_audit(store):
    """What a draw with unequal chances leaves over has fewer rare labels than the stream."""
    every = read_audit_pool(store, "sentiment", SHARES, START).records.tolist()
    item = {"record": _record(104), "task": "sentiment", "reason": "audit", "strategy": "audit",
            "priority": 1.0, "state": "done", "queued_at": START + timedelta(hours=150)}  # fmt: skip
    with store.begin() as connection:
        connection.execute(insert(label_task), [item])
    try:
        left = read_audit_pool(store, "sentiment", SHARES, START).records.tolist()
        of_another_task = read_audit_pool(store, "topic", SHARES, START).records.tolist()
    finally:
        store.execute(text("DELETE FROM label_task WHERE reason = 'audit'"), {})
    assert left == [record for record in every if record - ROWS_TO_START_AT >= 300]
    assert 0 < len(left) < len(every) / 2
    assert min(of_another_task) < min(left)


def test_embeddings_are_those_of_the_active_adapter_among_the_records_asked_for(store):
    asked = np.array([_record(offset) for offset in (1, 151, 160, 249, 250)])
    records, vectors = read_embeddings(store, "sentiment", 2, asked)
    found = dict(zip((records - ROWS_TO_START_AT).tolist(), vectors.tolist(), strict=True))
    assert found == {151: [151, -1, 0.5, 2], 249: [249, -1, 0.5, 2]}
    assert vectors.dtype == np.float16
    none, nothing = read_embeddings(store, "topic", 4, asked)
    assert len(none) == len(nothing) == 0


def test_texts_come_in_the_order_asked_for(store):
    asked = np.array([_record(7), _record(3), _record(7)])
    assert read_texts(store, asked) == [
        _review(7).review.message.text,
        _review(3).review.message.text,
        _review(7).review.message.text,
    ]
    with pytest.raises(WrongUse, match="no stored review"):
        read_texts(store, np.array([5]))


def test_known_texts_are_the_labelled_and_queued_ones_the_newest_first(store):
    known = read_known_texts(store, "sentiment", 1000)
    offsets = [5, *range(40, 61), 102, 101, 100]  # labels are newer than what was queued; 103 expired
    assert known == [_review(offset).review.message.text for offset in offsets]
    assert read_known_texts(store, "sentiment", 2) == known[:2]


@pytest.mark.parametrize("strategy", ["power-margin", "diverse-margin"])
def test_a_night_chooses_candidates_once_each_and_audit_items_apart(store, strategy):
    settings = SelectionSettings(
        strategy=strategy, items_per_night=1000, audit_items_per_night=1000, audit_window_days=5
    )
    chosen = choose_for_run(store, "sentiment", settings, SHARES, seed=1, now=NOW)
    offsets = [choice.record - ROWS_TO_START_AT for choice in chosen]
    assert len(offsets) == len(set(offsets))
    by_strategy = {o for o, choice in zip(offsets, chosen, strict=True) if choice.reason != "audit"}
    audit = set(offsets) - by_strategy
    assert {slice_of(f"r{offset % 360}", SHARES) for offset in audit} == {"audit"}
    window = read_audit_pool(store, "sentiment", SHARES, NOW - timedelta(days=5))
    assert audit == set((window.records - ROWS_TO_START_AT).tolist())
    assert min(audit) >= 240  # two are published each hour
    # All candidates but two of the three that say the same word for word.
    alike = {200, 201, 202} & set(_expected())
    assert len(alike) > 1
    assert by_strategy | alike == set(_expected())
    assert len(by_strategy & alike) == 1


def test_label_descriptions_lead_until_people_have_given_so_many_labels(store):
    """A zero-shot adapter serves, and people agree on 21 reviews."""

    def strategies(first_labels: int) -> set[str]:
        settings = SelectionSettings(first_labels=first_labels, audit_items_per_night=0, items_per_night=5)
        chosen = choose_for_run(store, "sentiment", settings, SHARES, seed=1, now=NOW)
        return {choice.strategy for choice in chosen}

    origin = text("UPDATE adapter SET origin = :origin WHERE version = :version")
    assert strategies(1000) == {"balanced-draw"}, "what serves was trained"
    with store.begin() as connection:
        connection.execute(origin, {"origin": "zero-shot", "version": ACTIVE})
    try:
        assert strategies(22) == {"label-descriptions"}
        assert strategies(21) == {"balanced-draw"}
    finally:
        with store.begin() as connection:
            connection.execute(origin, {"origin": "trained", "version": ACTIVE})


def test_the_same_seed_chooses_the_same_and_another_seed_does_not(store):
    settings = SelectionSettings(items_per_night=20, audit_items_per_night=5)

    def night(seed: int) -> list[Any]:
        return choose_for_run(store, "sentiment", settings, SHARES, seed=seed, now=NOW)

    assert night(1) == night(1)
    assert night(1) != night(2)
    assert len(night(1)) == 25


def test_embeddings_are_joined_to_their_rows(store):
    pool = load_pool(store, "sentiment", SelectionSettings(strategy="diverse-margin"), SHARES)
    assert pool.embeddings is not None
    assert pool.embedding_of is not None
    is_embedded = pool.embedding_of != -1
    offsets = (pool.records - ROWS_TO_START_AT)[is_embedded]
    assert offsets.tolist() == [o for o in _expected() if 150 <= o < 250 and o % 10 != 0]
    assert (pool.embeddings[pool.embedding_of[is_embedded]][:, 0] == offsets).all()


def test_what_is_queued_or_answered_is_not_chosen_again(store):
    settings = SelectionSettings(items_per_night=10, audit_items_per_night=5, skip_near_duplicates=False)
    first = choose_for_run(store, "sentiment", settings, SHARES, seed=1, now=NOW)
    half = len(first) // 2
    try:
        with store.begin() as connection:
            for choice in first[:half]:
                connection.execute(
                    text(
                        "INSERT INTO label_task (record, task, reason, strategy, priority) "
                        "VALUES (:record, 'sentiment', :reason, :strategy, :priority)"
                    ),
                    choice._asdict(),
                )
            for choice in first[half:]:
                connection.execute(
                    insert(label),
                    {
                        "record": choice.record, "task": "sentiment", "annotator": "ann", "source": "cli",
                        "labelled_at": NOW,
                    },
                )  # fmt: skip
        second = choose_for_run(store, "sentiment", settings, SHARES, seed=1, now=NOW)
        assert not {choice.record for choice in first} & {choice.record for choice in second}
        assert len(second) == len(first)
    finally:
        with store.begin() as connection:
            taken = [choice.record for choice in first]
            connection.execute(label_task.delete().where(label_task.c.record.in_(taken)))
            connection.execute(label.delete().where(label.c.record.in_(taken)))


def test_columns_of_many_blocks_arrive_as_they_were_sent(store):
    query = (
        "SELECT n::bigint AS a, (n %% %(modulus)s)::integer AS b, (n / 2.0)::real AS c, "
        "decode(lpad(to_hex(n), 8, '0'), 'hex') AS d FROM generate_series(1, 300000) AS n"
    )
    types = {"a": BIGINT, "b": INTEGER, "c": REAL, "d": np.dtype("V4")}
    with store.begin() as connection:
        columns = copy_columns(connection, query, {"modulus": 1000}, types)
    numbers = np.arange(1, 300_001)
    assert columns["a"].tolist() == numbers.tolist()
    assert columns["b"].tolist() == (numbers % 1000).tolist()
    assert columns["c"].tolist() == (numbers / 2).astype(np.float32).tolist()
    assert columns["d"].view(">u4").tolist() == numbers.tolist()


@pytest.mark.parametrize("query", ["SELECT NULL::bigint AS a", "SELECT 1 AS a", "SELECT 1::bigint, 2 AS a"])
def test_rows_of_another_shape_are_refused(store, query):
    with store.begin() as connection, pytest.raises(ReviewLoopError, match="other rows than asked for"):
        copy_columns(connection, query, {}, {"a": BIGINT})


def test_no_rows_are_empty_columns_of_the_right_type(store):
    with store.begin() as connection:
        columns = copy_columns(connection, "SELECT 1::bigint AS a WHERE false", {}, {"a": BIGINT})
    assert columns["a"].tolist() == []
    assert columns["a"].dtype == np.int64


def test_a_stored_probability_that_is_missing_is_named_by_its_record(store):
    offset = _expected()[3]
    change = "UPDATE prediction SET probabilities = {} WHERE record = :record AND task = 'sentiment'"
    before = list(_answer(ACTIVE if offset % 10 else OLD, offset).probabilities)
    try:
        with store.begin() as connection:
            connection.execute(text(change.format("ARRAY[1]::real[]")), {"record": _record(offset)})
        with pytest.raises(WrongUse, match=f"Record {_record(offset)} has a probability that is not finite"):
            load_pool(store, "sentiment", SelectionSettings(), SHARES)
    finally:
        with store.begin() as connection:
            connection.execute(
                text(change.format("cast(:before AS real[])")), {"record": _record(offset), "before": before}
            )


def test_of_very_many_records_the_pool_is_the_latest_and_a_draw_from_all_before(store, monkeypatch):
    monkeypatch.setattr(record_ranges, "STRETCH", 4)
    monkeypatch.setattr(pool_module, "_STEP_RECORDS", 30)
    some = read_pool(store, "sentiment", SHARES, most=200, seed=1)
    offsets = (some.records - ROWS_TO_START_AT).tolist()
    assert offsets == sorted(set(offsets) & set(_expected()))
    assert [offset for offset in offsets if offset >= 300] == [o for o in _expected() if o >= 300], (
        "the latest"
    )
    before = len([offset for offset in offsets if offset < 300])
    assert 20 < before < 0.6 * len([offset for offset in _expected() if offset < 300])
    assert (
        offsets
        == (read_pool(store, "sentiment", SHARES, most=200, seed=1).records - ROWS_TO_START_AT).tolist()
    )
    assert (
        offsets
        != (read_pool(store, "sentiment", SHARES, most=200, seed=2).records - ROWS_TO_START_AT).tolist()
    )
    every = read_audit_pool(store, "sentiment", SHARES, START).records.tolist()
    part = read_audit_pool(store, "sentiment", SHARES, START, most=200, seed=1).records.tolist()
    assert set(part) < set(every)
    assert len(part) > len(every) / 5
