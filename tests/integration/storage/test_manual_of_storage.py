"""The manual of `storage`, as one story: what is stored, what people say of it, and what serves.

Read it from top to bottom; each paragraph is what one process would do, and the database is all they share.
"""

from datetime import UTC, datetime

import pytest

from reviews.adapter import AdapterVersion
from reviews.dead_letter import DeadLetter, Replay
from reviews.label import UnpinnedLabel
from reviews.message import ReviewMessage
from reviews.prediction import Prediction
from reviews.record_id import record_id
from reviews.stream_records import AcceptedReview, PartitionRange, ScoredReview
from storage.adapters.registry import ActivationConflict, AdapterStore
from storage.database import Database
from storage.labels.store import LabelStore
from storage.labels.waiting import pin_waiting
from storage.queries.dead_letters import LetterFilter, find_dead_letters
from storage.queries.filters import ReviewFilter
from storage.queries.reviews import find_reviews
from storage.stream.dead_letters import Choice, DeadLetterStore
from storage.stream.partitions import PartitionStore
from storage.stream.review_writer import ReviewWriter

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LABELS = ("bad", "good")


def _adapter(name: str) -> AdapterVersion:
    return AdapterVersion(f"sentiment-{name}", "sentiment", LABELS, "base", None, content_hash=name)


def _scored(
    offset: int, review_id: str, text: str, adapter: AdapterVersion, replay: Replay | None = None
) -> ScoredReview:
    answer = Prediction("sentiment", "good", 0.75, (0.25, 0.75), 0.5, 0.56, False, adapter.version)
    review = AcceptedReview(
        offset, ReviewMessage(id=review_id, text=text), NOW, NOW, None, None, replay=replay
    )
    return ScoredReview(review, (answer,))


def test_a_batch_a_label_an_adapter_and_a_replay(store: Database):
    # An adapter is registered with its files, by its content. It serves its task from an activation on, which
    # names the activation that it replaces: here none, as it is the first.
    adapters, first = AdapterStore(store), _adapter("first")
    assert adapters.add(first, {"adapter_config.json": b"{}"})
    serving = adapters.activate(first, expected=None, decided_by="ann", reason="the first")

    # A worker that is assigned a partition for the first time registers where it begins to read.
    stream = PartitionStore(store).register("cluster", "reviews", "topic-id", partition=0, start_offset=0)

    # It stores the records from the stored offset on: reviews with their predictions, and dead letters for
    # what could not become a review. The offset moves in the same transaction.
    letter = DeadLetter(1, "parse", "not_json", "The value is no JSON.", b"{", None, NOW)
    batch = PartitionRange(stream.partition_id, 0, 2, [_scored(0, "r-1", "Lovely.", first)], [letter])
    writer = ReviewWriter(store)
    assert writer.write([batch]).lost == frozenset()
    (position,) = PartitionStore(store).list_positions()
    assert position.next_offset == 2

    # Another worker with the same batch has lost the compare-and-set of the offset, and stores nothing.
    assert writer.write([batch]).lost == {stream.partition_id}

    # People read the public view: the current version of each review, with one row per task.
    (row,) = find_reviews(store, ReviewFilter(label="good"))
    assert (row["review_id"], row["adapter_version"], row["human_label"]) == ("r-1", first.version, None)

    # A label may come before its review: it waits, and is pinned to the review when that is stored.
    labels = LabelStore(store)
    known, early = (
        UnpinnedLabel(review_id, "sentiment", "bad", "ann", "topic", NOW) for review_id in ("r-1", "r-2")
    )
    added = labels.add([known, early])
    assert (added.added, added.waiting) == (1, 1)
    record = record_id(stream.partition_id, offset=0)
    assert labels.consensus("sentiment", [record]) == {record: "bad"}

    # A better adapter takes over from the activation that the gate saw. A person who decided on the same
    # state and comes second gets an error, and nothing changes.
    better = _adapter("better")
    adapters.add(better, {"adapter_config.json": b"{}"})
    after = adapters.activate(better, expected=serving, decided_by="gate", reason="a better F1")
    assert (after.version, after.replaced) == (better.version, first.version)
    with pytest.raises(ActivationConflict, match="meanwhile"):
        adapters.activate(first, expected=serving, decided_by="bob", reason="too late")

    # The dead letter waits. Its value, mended and published again, arrives as a new record that says which
    # dead letter it is another attempt at; storing that review settles the dead letter.
    (waiting,) = DeadLetterStore(store).choose(Choice(error="not_json"))
    assert waiting.place == ("reviews", 0, 1)
    mended = _scored(2, "r-2", "Shrank.", better, Replay("topic-id", partition=0, offset=1))
    writer.write([PartitionRange(stream.partition_id, 2, 3, [mended])])
    (settled,) = find_dead_letters(store, LetterFilter(state="replayed"))
    assert settled["replayed_as"] == "reviews:0:2"

    # Now the label that came too early finds its review.
    assert pin_waiting(store) == 1
    (row,) = find_reviews(store, ReviewFilter(review_id="r-2"))
    assert (row["human_label"], row["adapter_version"]) == ("bad", better.version)
