"""What people write about the labels of their tasks, and what stands in where they write nothing."""

import pytest
from pydantic import ValidationError

from reviews.errors import WrongUse
from reviews.task import DEFAULT_LABELS, LabelSettings, TaskSettings, described_labels


def test_the_task_of_sentiment_has_bundled_labels_with_three_sentences_each():
    found = described_labels("sentiment", ())
    assert [label.name for label in found] == ["negative", "neutral", "positive"]
    assert all(len(label.texts) == 3 for label in found)


def test_labels_of_sentiment_in_other_spellings_get_the_bundled_sentences_and_keep_their_names():
    task = TaskSettings(name="mood", labels=[{"name": "NEG"}, {"name": "Positive"}])
    negative, positive = described_labels("mood", [task])
    assert (negative.name, negative.texts) == ("NEG", DEFAULT_LABELS[0].texts)
    assert (positive.name, positive.texts) == ("Positive", DEFAULT_LABELS[2].texts)


def test_what_people_wrote_comes_before_what_is_bundled():
    task = TaskSettings(labels=[{"name": "negative", "description": "Rotten."}, {"name": "positive"}])
    assert described_labels("sentiment", [task])[0].texts == ("Rotten.",)


def test_labels_come_in_the_order_of_the_adapter_that_has_them():
    found = described_labels("sentiment", (), ["positive", "negative"])
    assert [label.name for label in found] == ["positive", "negative"]


def test_a_label_that_nobody_described_is_refused_with_what_to_write():
    task = TaskSettings(
        name="topic", labels=[{"name": "delivery"}, {"name": "price", "description": "Cost."}]
    )
    with pytest.raises(WrongUse, match=r"'delivery' of the task 'topic' mean: write a description"):
        described_labels("topic", [task])
    with pytest.raises(WrongUse, match=r"Nothing says which labels the task 'topic' has"):
        described_labels("topic", ())


@pytest.mark.parametrize(
    "labels",
    [
        [{"name": "one"}],
        [{"name": "one"}, {"name": "one"}],
        [{"name": "one"}, {"name": "two", "examples": ["   "]}],
        [{"name": "one"}, {"name": "two", "examples": ["x" * 2_001]}],
        [{"name": "one"}, {"name": "two", "examples": ["x"] * 101}],
        [{"name": "one"}, {"name": "two", "description": "a\0b"}],
    ],
)
def test_labels_that_no_adapter_could_have_and_texts_without_an_end_are_refused(labels):
    with pytest.raises(ValidationError):
        TaskSettings(name="topic", labels=labels)


def test_a_label_has_its_description_before_its_examples():
    assert LabelSettings(name="a", description="D.", examples=("E.",)).texts == ("D.", "E.")
