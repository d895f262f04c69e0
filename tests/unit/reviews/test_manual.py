"""The vocabulary as a story: what a record is, from its raw bytes to what one transaction stores."""

from datetime import UTC, datetime

import pytest

from reviews.dead_letter import Replay, StoredLetter, read_replay, replay_headers
from reviews.errors import InvalidMessage
from reviews.label import Vocabulary, parse_label, resolve_label
from reviews.message import parse_review
from reviews.prediction import Prediction
from reviews.record_id import record_id
from reviews.stream_records import AcceptedReview, PartitionRange, ScoredReview

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_the_story_of_a_review():
    # A publisher sends JSON. Numbers in text are numbers, moments become UTC, unknown fields are ignored.
    raw = b'{"id": 7, "text": "Good kettle.", "stars": "4", "published_at": "2026-03-01T13:00+01:00", "x": 1}'
    message = parse_review(raw)
    assert (message.id, message.stars, message.published_at) == ("7", 4, NOW)

    # What is no review is refused with a reason to count by, and a sentence that does not quote the input.
    with pytest.raises(InvalidMessage, match="at least one visible character") as refusal:
        parse_review(b'{"id": "8", "text": "  "}')
    assert refusal.value.reason == "bad_text"

    # Partition and offset make the number that names the record everywhere.
    assert record_id(partition_id=3, offset=5) == (3 << 40) + 5

    # The worker accepts the message, and the classifiers answer.
    review = AcceptedReview(5, message, NOW, NOW, raw, b"7", kafka_ms=1_000)
    answer = Prediction("sentiment", "positive", 0.9, (0.1, 0.9), 0.8, 0.3, False, "sentiment-1")
    scored = ScoredReview(review, (answer,))

    # A range is what one transaction stores of a partition: it continues one offset and ends at another.
    part = PartitionRange(3, expected=5, next=8, accepted=[scored])
    before, after = part.split_at(6)
    assert (before.offsets(), before.next, after.offsets(), after.expected) == ([5], 6, [], 6)

    # If the database cannot store the review, it becomes a dead letter with everything as it was delivered.
    (letter,) = part.refused("program_limit_exceeded", "The text does not fit.").dead_letters
    assert (letter.offset, letter.stage, letter.raw, letter.key) == (5, "store", raw, b"7")


def test_the_story_of_a_dead_letter():
    letter = StoredLetter(
        1, "reviews", "topic-id", 0, 5, "parse", "not_json", "No JSON.", b"{", None, "waiting", 1_000, NOW
    )  # fmt: skip
    assert letter.place == "reviews:0:5"
    # It is published again with two headers, which name it and keep the time of the first attempt.
    assert read_replay(replay_headers(letter)) == Replay("topic-id", 0, 5, timestamp_ms=1_000)
    # Anybody may write headers: what does not look like ours is no replay, and never an error.
    assert read_replay([("reviewloop.dead_letter", b"\xff")]) is None


def test_the_story_of_a_label():
    # People and programs say what a review is: by a name, by a number, or that they cannot tell.
    said = parse_label(b'{"review_id": "7", "label": "1", "annotator": "ann"}')
    assert (said.task, said.label) == ("sentiment", "1")
    # The labels of the task give a number its meaning, and refuse what is none of them.
    vocabulary = Vocabulary(("negative", "positive"))
    assert resolve_label(said.label, vocabulary) == "positive"
    assert resolve_label("unsure", vocabulary) is None
    with pytest.raises(InvalidMessage, match=r"negative \(0\), positive \(1\), or unsure"):
        resolve_label("great", vocabulary)
