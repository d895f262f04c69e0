"""Texts that make a model fail are found and refused; everything else of the batch is scored."""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest
from kafka.structs import TopicPartition

from consumer.batch import Batch
from consumer.scoring import Refusal, bisect, score_batch, tokenise_batch
from reviews.dead_letter import DeadLetter, Replay
from reviews.errors import ModelError
from reviews.message import ReviewMessage
from reviews.prediction import Prediction
from reviews.stream_records import AcceptedReview, PartitionRange

_NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Model:
    """Fails in the way it is told on texts that begin with "bad"."""

    task = "sentiment"
    adapter_version = "sentiment-0123456789ab"

    def __init__(self, *, encode: Callable[[str], object] = str, confidence: float | None = None) -> None:
        self._encode = encode
        self._confidence = confidence
        self.calls = 0

    def encode(self, texts: Sequence[str]) -> list[object]:
        return [self._encode(text) for text in texts]

    def score(self, encoded: Sequence[object]) -> list[Prediction]:
        self.calls += 1
        return [self._predict(str(text)) for text in encoded]

    def _predict(self, text: str) -> Prediction:
        confidence = 0.9
        if text.startswith("bad"):
            if self._confidence is None:
                raise RuntimeError("index out of range in self")
            confidence = self._confidence
        return Prediction(
            "sentiment", text[:3], confidence, (confidence, 0.1), 0.8, 0.3, False, self.adapter_version
        )


def make_batch(texts: Sequence[str], dead: Sequence[int] = (), replay: Replay | None = None) -> Batch:
    partition = TopicPartition("reviews", 0)
    part = PartitionRange(1, 0, len(texts) + len(dead))
    offsets = iter(number for number in range(part.next) if number not in dead)
    for offset, text in zip(offsets, texts, strict=True):
        message = ReviewMessage(id=str(offset), text=text)
        part.accepted.append(AcceptedReview(offset, message, _NOW, _NOW, text.encode(), b"k", 5, replay))
    part.dead_letters += [DeadLetter(o, "parse", "not_json", "No.", b"", None, _NOW) for o in dead]
    return Batch(0.0, {partition: part})


def _score(batch: Batch, *models: Model):
    (scored,) = score_batch(tokenise_batch(batch, models)).values()
    return scored


@pytest.mark.parametrize("place", [0, 1, 36, 98, 99])
def test_one_text_that_fails_is_found_wherever_it_stands_in_few_calls(place: int) -> None:
    texts = [f"fine {number}" for number in range(100)]
    texts[place] = "bad one"
    model = Model()

    scored = _score(make_batch(texts), model)

    assert [letter.offset for letter in scored.dead_letters] == [place]
    assert [review.offset for review in scored.accepted] == [n for n in range(100) if n != place]
    assert model.calls < 25  # about twice the logarithm
    letter = scored.dead_letters[0]
    assert (letter.stage, letter.reason, letter.raw, letter.key) == (
        "score",
        "model_failed",
        b"bad one",
        b"k",
    )
    assert letter.message == "The model failed on this text: RuntimeError."


def test_every_review_keeps_the_prediction_of_its_own_text() -> None:
    texts = ["abc", "bad", "def", "bad again", "ghi"]
    scored = _score(make_batch(texts), Model())
    assert [(row.review.message.text, row.predictions[0].label) for row in scored.accepted] == [
        ("abc", "abc"),
        ("def", "def"),
        ("ghi", "ghi"),
    ]


def test_a_tokeniser_that_fails_refuses_the_text_and_not_the_batch() -> None:
    def encode(text: str) -> str:
        if text == "bad":
            raise ValueError("no such token")
        return text

    scored = _score(make_batch(["abc", "bad", "def"]), Model(encode=encode))
    assert [letter.offset for letter in scored.dead_letters] == [1]
    assert len(scored.accepted) == 2


@pytest.mark.parametrize("confidence", [math.nan, math.inf, -math.inf])
def test_non_finite_logits_count_as_a_failure(confidence: float) -> None:
    scored = _score(make_batch(["abc", "bad", "def"]), Model(confidence=confidence))
    assert [letter.offset for letter in scored.dead_letters] == [1]
    assert scored.dead_letters[0].message == "The model failed on this text: ArithmeticError."


def test_a_text_that_one_of_two_models_cannot_score_is_one_dead_letter() -> None:
    scored = _score(make_batch(["abc", "bad", "def"]), Model(), Model(confidence=0.5))
    assert [letter.offset for letter in scored.dead_letters] == [1]
    assert [len(review.predictions) for review in scored.accepted] == [2, 2]


def test_a_model_that_fails_on_everything_stops_the_worker_and_blames_no_text() -> None:
    class Dead(Model):
        def score(self, encoded: Sequence[object]) -> list[Prediction]:
            raise RuntimeError("CUDA error: device-side assert triggered")

    with pytest.raises(ModelError, match="fails on every text"):
        _score(make_batch(["abc", "def"]), Dead())


def test_refusals_of_both_stages_stand_in_order_of_offset() -> None:
    scored = _score(make_batch(["bad", "abc", "bad"], dead=[1, 4]), Model())
    assert [letter.offset for letter in scored.dead_letters] == [0, 1, 3, 4]


def test_a_replay_is_noted_when_it_is_scored_and_only_then() -> None:
    replay = Replay("topic", 0, 7)
    (row,) = _score(make_batch(["abc"], replay=replay), Model()).accepted
    assert (row.offset, row.replay) == (0, replay)
    failed = _score(make_batch(["bad"], replay=replay), Model())
    assert (failed.accepted, failed.dead_letters[0].replay) == ([], replay)


def test_bisecting_gives_one_outcome_per_text_whatever_fails() -> None:
    for mask in range(2**6):
        texts = ["bad" if mask >> bit & 1 else "abc" for bit in range(6)]
        outcomes = bisect([Model()], texts)
        assert [isinstance(outcome, Refusal) for outcome in outcomes] == [text == "bad" for text in texts]


def test_a_batch_without_reviews_asks_no_model() -> None:
    model = Model()
    assert _score(make_batch([], dead=[0]), model).dead_letters[0].offset == 0
    assert model.calls == 0
