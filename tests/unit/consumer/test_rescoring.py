"""A worker of a rescoring job: piece by piece, patient with the database, and gone when its lease is."""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pytest

from consumer import rescoring
from consumer.embeddings import EmbeddingSettings
from consumer.rescoring import Rescorer
from reviews.errors import ModelError, Unavailable
from reviews.rescoring import Claim, RangeLost, Rescored, RescoreJob, StoredText
from tests.unit.consumer.test_embeddings import EmbeddingModel
from tests.unit.consumer.test_scoring import Model

JOB = RescoreJob(
    1, "sentiment", Model.adapter_version, None, None, "running", datetime(2026, 1, 1, tzinfo=UTC), None
)


class Ranges:
    """One range over some texts, in memory; refuses, or is away, where told."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = [StoredText(number, f"r{number}", text, 7) for number, text in enumerate(texts)]
        self.done = 0
        self.rescored: dict[int, Rescored] = {}
        self.refused = 0
        self.released = 0
        self.failures: list[Exception] = []
        self.commits = 0
        self.token = 0

    def _maybe_fail(self) -> None:
        if self.failures:
            raise self.failures.pop()

    def claim(self, job: RescoreJob, holder: str) -> Claim | None:
        self._maybe_fail()
        if self.done == len(self.texts):
            return None
        self.token += 1
        return Claim(1, 0, len(self.texts), self.done, self.token)

    def read(self, job: RescoreJob, claim: Claim, limit: int, max_bytes: int) -> list[StoredText]:
        self._maybe_fail()
        return self.texts[claim.done_record : claim.next_record][:limit]

    def commit(self, job, claim: Claim, done: int, rescored: Sequence[Rescored], refused: int) -> Claim:
        self._maybe_fail()
        assert claim.done_record == self.done
        self.rescored |= {item.record: item for item in rescored}
        self.refused += refused
        self.done = done
        self.commits += 1
        return claim._replace(done_record=done)

    def release(self, claim: Claim) -> None:
        self.released += 1

    def finish(self, job: RescoreJob) -> RescoreJob:
        return (
            job
            if self.done < len(self.texts)
            else RescoreJob(1, "sentiment", "v", None, None, "done", job.created_at, None)
        )


def _run(
    ranges: Ranges, model: Model | None = None, stopping: threading.Event | None = None, **options
) -> RescoreJob:
    return Rescorer(
        ranges,
        JOB,
        model or Model(),
        embeddings=options.pop("embeddings", EmbeddingSettings(keep="none")),
        holder="me",
        stopping=stopping or threading.Event(),
        retry_max_seconds=0.01,
        **options,
    ).run()


def test_every_review_gets_the_answer_to_its_own_text_and_names_what_it_replaces(monkeypatch):
    monkeypatch.setattr(rescoring, "_PIECE_REVIEWS", 3)
    ranges = Ranges([f"{number:03}" for number in range(10)])
    assert _run(ranges).state == "done"
    assert [ranges.rescored[number].prediction.label for number in range(10)] == [
        f"{number:03}" for number in range(10)
    ]
    assert {item.replaces for item in ranges.rescored.values()} == {7}
    assert ranges.commits == 4


def test_a_text_that_the_model_fails_on_keeps_what_it_has_and_the_others_go_on():
    ranges = Ranges(["abc", "bad", "def"])
    _run(ranges)
    assert (sorted(ranges.rescored), ranges.refused) == ([0, 2], 1)


def test_a_model_that_fails_on_everything_ends_the_work_and_moves_nothing_on():
    class Dead(Model):
        def score(self, encoded):
            raise RuntimeError("device-side assert")

    ranges = Ranges(["abc"])
    with pytest.raises(ModelError, match="fails on every text"):
        _run(ranges, Dead())
    assert ranges.done == 0


def test_a_database_that_is_away_is_waited_for():
    ranges = Ranges(["abc", "def"])
    ranges.failures = [Unavailable("away")] * 3
    assert _run(ranges).state == "done"
    assert sorted(ranges.rescored) == [0, 1]


def test_a_lost_lease_leaves_the_range_and_claims_anew():
    ranges = Ranges(["abc", "def"])

    class Losing(Model):
        def score(self, encoded):
            if self.calls == 0:
                ranges.failures = [RangeLost("in other hands")]
            return super().score(encoded)

    assert _run(ranges, Losing()).state == "done"
    assert ranges.token == 2


def test_a_worker_that_is_told_to_stop_finishes_its_piece_and_lets_others_take_the_range(monkeypatch):
    monkeypatch.setattr(rescoring, "_PIECE_REVIEWS", 1)
    ranges, stopping = Ranges(["abc", "def", "ghi"]), threading.Event()
    job = _run(ranges, stopping=stopping, on_progress=stopping.set)
    assert (job.state, ranges.done, ranges.released) == ("running", 1, 1)


def test_embeddings_are_kept_by_the_same_decision_as_in_the_stream():
    ranges = Ranges(["a", "abc"])
    _run(ranges, EmbeddingModel(), embeddings=EmbeddingSettings(keep="all"))
    vectors = [np.frombuffer(ranges.rescored[number].kept.vector, "<f2").tolist() for number in (0, 1)]
    assert vectors == [[1], [3]]
