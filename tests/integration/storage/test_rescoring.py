"""Rescoring on a real PostgreSQL: nothing lost, history complete, whoever is killed, frozen or beside it."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from reviews.adapter import AdapterVersion
from reviews.errors import WrongUse
from reviews.prediction import Prediction
from reviews.rescoring import RangeLost, Rescored, RescoreJob
from reviews.stream_records import KeptEmbedding, PartitionRange, ScoredReview
from storage.adapters.registry import AdapterStore
from storage.adapters.rescoring import RescoreStore
from storage.database import Database
from storage.stream.partitions import PartitionStore
from storage.stream.review_writer import ReviewWriter
from tests.integration.storage.rescore_worker import make_rescorer
from tests.scored import scored_review

NOW = datetime(2026, 1, 1, tzinfo=UTC)
A, B, C = (f"sentiment-{letter * 12}" for letter in "abc")
STORED = 300
_CURRENT = (
    "SELECT p.record, a.version, p.label, p.confidence, p.probabilities, p.margin, p.entropy, p.truncated, "
    "p.scored_at FROM {} p JOIN adapter a ON a.id = p.adapter_id {} ORDER BY p.record, a.version"
)


def _said(name: str, version: str = A) -> Prediction:
    return Prediction("sentiment", f"said of {name}", 0.7, (0.3, 0.7), 0.4, 0.6, False, version)


def _review(
    offset: int, received_at: datetime = NOW, version: str = A, task: str = "sentiment"
) -> ScoredReview:
    said = _said(str(offset), version)._replace(task=task)
    return scored_review(offset, f"r{offset}", f"text {offset}", None, None, None, NOW, received_at, (said,))


@pytest.fixture
def filled(store: Database) -> Database:
    """Three adapters, and 300 reviews on two partitions that A scored."""
    adapters = AdapterStore(store)
    for number, name in enumerate((A, B, C)):
        adapters.add(
            AdapterVersion(name, "sentiment", ("bad", "good"), "base", None, str(number) * 64), {"a": b""}
        )
    for partition in range(2):
        PartitionStore(store).register("cluster", "reviews", "topic", partition, 0)
        reviews = [_review(offset) for offset in range(STORED // 2)]
        ReviewWriter(store).write([PartitionRange(partition + 1, 0, STORED // 2, reviews)])
    return store


def _rows(store: Database, query: str) -> list[tuple[Any, ...]]:
    with store.begin() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def _do(store: Database, statement: str) -> None:
    with store.begin() as connection:
        connection.execute(text(statement))


def _current(store: Database, where: str = "") -> list[tuple[Any, ...]]:
    return _rows(store, _CURRENT.format("prediction", where))


def _history(store: Database) -> list[tuple[Any, ...]]:
    return _rows(store, _CURRENT.format("prediction_history", "WHERE reason = 'replaced'"))


def _job(store: Database, version: str = B, **options: Any) -> RescoreJob:
    return RescoreStore(store).create(AdapterStore(store).find(version), **{"range_records": 40, **options})


def _rescore(store: Database, job: RescoreJob, lease_seconds: float = 60) -> RescoreJob:
    return make_rescorer(store, job, lease_seconds).run()


@contextmanager
def _live_stream(store: Database) -> Iterator[list[int]]:
    """Batches that the stream stores meanwhile, scored by B by now; how many reviews of them."""
    stored, ending = [0], threading.Event()

    def write() -> None:
        writer = ReviewWriter(store)
        while not ending.is_set():
            first = STORED // 2 + stored[0]
            reviews = [_review(first + number, version=B) for number in range(5)]
            assert not writer.write([PartitionRange(1, first, first + 5, reviews)]).lost
            stored[0] += 5

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield stored
    finally:
        ending.set()
        thread.join(30)


def test_a_job_survives_kill_minus_9_and_two_workers_finish_it_beside_the_live_stream(
    filled: Database, database: str
):
    before = _current(filled)
    job = _job(filled)
    command = [sys.executable, "-m", "tests.integration.storage.rescore_worker", database, str(job.id), "1"]
    root = Path(__file__).parents[3]
    with _live_stream(filled) as live:
        worker = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
        assert worker.stdout is not None
        for _ in range(3):
            assert worker.stdout.readline() == "piece\n"
        worker.kill()
        worker.communicate()
        killed_at = RescoreStore(filled).progress(job)
        assert 0 < killed_at.done < killed_at.records
        threads = [threading.Thread(target=_rescore, args=(filled, job, 1)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

    ended = RescoreStore(filled).find(job.id)
    assert ended.state == "done"
    assert RescoreStore(filled).progress(job)[:5] == (STORED, STORED, STORED, 0, 8)
    assert _history(filled) == before
    now = _current(filled, "JOIN review r USING (record) WHERE r.text = reverse(p.label)")
    assert [row[:2] for row in now] == [(row[0], B) for row in before]
    assert live[0] > 0
    assert len(_current(filled)) == STORED + live[0]
    untouched = f"WHERE p.record & 1099511627775 >= {STORED // 2} AND p.label NOT LIKE 'said of %'"
    assert _current(filled, untouched) == []


def test_a_worker_that_was_frozen_past_its_lease_writes_nothing(filled: Database):
    job = _job(filled)
    frozen, other = RescoreStore(filled, lease_seconds=0), RescoreStore(filled)
    claim = frozen.claim(job, "frozen")
    texts = frozen.read(job, claim, 7, 10**6)
    assert other.claim(job, "other").first_record == claim.first_record
    rescored = [Rescored(item.record, item.adapter_id, _said("late", B), None) for item in texts]
    with pytest.raises(RangeLost):
        frozen.commit(job, claim, texts[-1].record + 1, rescored, 0)
    assert {row[1] for row in _current(filled)} == {A}
    assert _history(filled) == []


def test_a_commit_whose_answer_was_lost_is_not_done_twice(filled: Database):
    job, ranges = _job(filled), RescoreStore(filled)
    claim = ranges.claim(job, "me")
    texts = ranges.read(job, claim, 7, 10**6)
    rescored = [Rescored(item.record, item.adapter_id, _said("new", B), None) for item in texts]
    ranges.commit(job, claim, texts[-1].record + 1, rescored, 0)
    with pytest.raises(RangeLost):
        ranges.commit(job, claim, texts[-1].record + 1, rescored, 0)
    again = ranges.claim(job, "me")
    assert (again.done_record, again.token) == (texts[-1].record + 1, claim.token + 1)
    assert ranges.progress(job).replaced == 7


def test_two_workers_never_hold_one_range_and_a_released_one_is_free_at_once(filled: Database):
    job, ranges = _job(filled), RescoreStore(filled)
    claims = [ranges.claim(job, f"worker {number}") for number in range(9)]
    assert claims[-1] is None
    assert len({claim.first_record for claim in claims[:-1]}) == 8
    ranges.release(claims[3])
    assert ranges.claim(job, "another").first_record == claims[3].first_record


@pytest.mark.parametrize(("max_bytes", "expected"), [(0, 1), (5, 1), (11, 1), (12, 2), (10**6, 3)])
def test_texts_are_read_up_to_a_bound_of_bytes_and_one_alone_however_long_it_is(
    filled: Database, max_bytes: int, expected: int
):
    job, ranges = _job(filled), RescoreStore(filled)
    _do(filled, "UPDATE review SET text = 'äöx-'")  # six bytes, four characters
    claim = ranges.claim(job, "me")
    found = ranges.read(job, claim, 3, max_bytes)
    assert len(found) == expected


def test_a_prediction_that_changed_since_it_was_read_is_left_alone(filled: Database):
    job, ranges = _job(filled), RescoreStore(filled)
    claim = ranges.claim(job, "me")
    texts = ranges.read(job, claim, 3, 10**6)
    _do(filled, f"UPDATE prediction SET adapter_id = 3 WHERE record = {texts[1].record}")
    rescored = [Rescored(item.record, item.adapter_id, _said("new", B), None) for item in texts]
    ranges.commit(job, claim, texts[-1].record + 1, rescored, 0)
    assert [row[1] for row in _current(filled)][:3] == [B, C, B]
    assert [row[1] for row in _history(filled)] == [A, A]
    assert ranges.progress(job).replaced == 2


def test_an_adapter_that_comes_and_goes_stands_in_the_history_once(filled: Database):
    for version in (B, A, B):
        assert _rescore(filled, _job(filled, version)).state == "done"
    assert {row[1] for row in _current(filled)} == {B}
    assert [row[1] for row in _history(filled)] == [A, B] * STORED


def test_a_shadows_answer_does_not_stand_in_the_way(filled: Database):
    shadow = _review(STORED // 2)._replace(shadows=(_said("shadow", B),))
    ReviewWriter(filled).write([PartitionRange(1, STORED // 2, STORED // 2 + 1, [shadow])])
    for version in (B, C):
        _rescore(filled, _job(filled, version))
    record = (1 << 40) + STORED // 2
    assert [row[:2] for row in _history(filled) if row[0] == record] == [(record, A), (record, B)]
    assert _rows(filled, "SELECT count(*) FROM prediction_history WHERE reason = 'shadow'") == [(0,)]


def test_only_what_was_received_in_time_is_rescored_and_a_new_task_is_filled_in(filled: Database):
    offset = STORED // 2
    late = [
        _review(offset, NOW + timedelta(days=1)),
        _review(offset + 1, NOW + timedelta(days=2), task="tone"),
    ]
    ReviewWriter(filled).write([PartitionRange(1, offset, offset + 2, late)])
    _rescore(filled, _job(filled, since=NOW + timedelta(hours=1)))
    rescored = _current(filled, f"WHERE a.version = '{B}'")
    assert [(row[0] & 0xFFFF, row[2]) for row in rescored] == [
        (offset, f"text {offset}"[::-1]),
        (offset + 1, f"text {offset + 1}"[::-1]),
    ]
    assert _rescore(filled, _job(filled, C, until=NOW)).state == "done"
    assert C not in {row[1] for row in _current(filled)}


def test_one_job_of_a_task_runs_at_a_time_and_a_cancelled_one_writes_no_more(filled: Database):
    job, ranges = _job(filled), RescoreStore(filled)
    with pytest.raises(WrongUse, match="being rescored already"):
        _job(filled, C)
    claim = ranges.claim(job, "me")
    texts = ranges.read(job, claim, 7, 10**6)
    assert ranges.cancel("sentiment").state == "cancelled"
    rescored = [Rescored(item.record, item.adapter_id, _said("late", B), None) for item in texts]
    with pytest.raises(RangeLost):
        ranges.commit(job, claim, texts[-1].record + 1, rescored, 0)
    assert {row[1] for row in _current(filled)} == {A}
    assert ranges.finish(job).state == "cancelled"
    assert ranges.cancel("sentiment") is None
    assert _rescore(filled, _job(filled, C)).state == "done"


def test_workers_of_a_job_that_is_cancelled_end_and_leave_what_they_did(filled: Database):
    job, stopping, ended = _job(filled), threading.Event(), []

    def cancel() -> None:
        RescoreStore(filled).cancel("sentiment")

    def work() -> None:
        ended.append(make_rescorer(filled, job, 60, cancel, stopping).run().state)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
    is_over = not any(worker.is_alive() for worker in workers)
    stopping.set()  # else one that works for ever would outlive its test
    assert is_over
    assert ended == ["cancelled", "cancelled"]
    assert 7 <= RescoreStore(filled).progress(job).replaced < STORED


def test_the_embedding_follows_the_prediction_to_its_adapter(filled: Database):
    job, ranges = _job(filled), RescoreStore(filled)
    claim = ranges.claim(job, "me")
    (item,) = ranges.read(job, claim, 1, 10**6)
    for vector in (b"\x00\x3c", b"\x00\x40"):
        kept = KeptEmbedding("sentiment", B, "audit", vector)
        rescored = [Rescored(item.record, item.adapter_id, _said("x", B), kept)]
        claim = ranges.commit(job, claim, claim.done_record, rescored, 0)
        item = item._replace(adapter_id=2)
        found = _rows(filled, "SELECT record, adapter_id, vector FROM embedding")
        assert found == [(item.record, 2, vector)]


def test_only_reviews_of_the_given_topics_are_scored_anew(filled: Database):
    done = _rescore(filled, _job(filled, topics=["another"]))
    assert (done.state, _history(filled)) == ("done", [])
    _rescore(filled, _job(filled, topics=["another", "reviews"]))
    assert len(_history(filled)) == STORED
