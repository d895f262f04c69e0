"""Names from a closed set: one that there is not is a mistake, and the error lists those that there are."""

import json

import pytest

from reviews.adapter import AdapterVersion
from reviews.errors import WrongUse
from storage.adapters.registry import AdapterStore
from tests.integration.in_process import Stream

TOPIC = AdapterVersion("topic-1", "topic", ("price", "size"), "none", None, "02" * 32)

TASKS = "There is no task 'tone': there is sentiment, topic."
ALL_LABELS = "There is no label 'bad': there is negative, positive, price, size."


@pytest.fixture
def made(stream: Stream):
    """A stream with adapters of two tasks, one of them scored."""
    made = stream()
    adapters = AdapterStore(made.database)
    adapters.add(TOPIC, {"a": b""})
    return made


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("query --label bad", ALL_LABELS),
        ("query --label price --task sentiment", "There is no label 'price': there is negative, positive."),
        ("query --task tone", TASKS),
        ("query --adapter nobody", "The adapter 'nobody' is not registered"),
        ("query --adapter=", "The adapter '' is not registered"),
        ("adapters list --task tone", TASKS),
        ("adapters history --task tone", TASKS),
        ("adapters shadow status --task tone", TASKS),
        ("drift list --task tone", TASKS),
        ("drift report --task tone", TASKS),
        ("adapters watch --task tone", TASKS),
        ("adapters rollback --task tone", TASKS),
        ("trainer history --task tone", TASKS),
        ("label queue --task tone", TASKS),
        ("label queue fill --task tone", TASKS),
        ("label agreement --task tone", TASKS),
        ("label suspects --task tone", TASKS),
        ("label progress --task tone", TASKS),
        ("label export --task tone", TASKS),
        ("label export --label price", "There is no label 'price': there is negative, positive."),
        ("rescore --status --task tone", TASKS),
    ],
)
def test_an_unknown_name_is_refused_with_those_that_there_are(made, run, arguments, says):
    with pytest.raises(WrongUse) as refused:
        run(made, *arguments.split())
    assert says in str(refused.value)


def test_known_names_and_the_beginning_of_an_adapter_are_taken_and_counts_are_of_a_task(made, run):
    made.publish([json.dumps({"id": f"r-{n}", "text": "x" * n}).encode() for n in (1, 2, 3, 4)])
    made.consume()
    (found,) = map(json.loads, run(made, "query", "--count", "--label", "negative").splitlines())
    assert found == {"task": "sentiment", "label": "negative", "reviews": 2, "is_estimate": False}
    assert len(run(made, "query", "--adapter", "sentiment-0123").splitlines()) == 4
    assert run(made, "query", "--adapter", "topic") == ""


@pytest.mark.parametrize(
    ("arguments", "prints"),
    [
        ("list", ""),
        ("list --count", ""),
        ("replay", "Published 0 dead letters anew.\n"),
        ("discard --reason old", "Discarded 0 dead letters.\n"),
    ],
)
def test_a_reason_without_dead_letters_is_no_mistake_and_those_that_occurred_are_named(
    made, run, arguments, prints
):
    made.publish([b'{"id": "r-1"}'])
    made.consume()
    result = run(made, "dead-letters", *arguments.split(), "--error", "bad_star", whole=True)
    assert result.stdout == prints
    assert result.stderr == "No dead letter has the reason 'bad_star'. Reasons that occurred: missing_text.\n"


def test_a_task_that_no_adapter_has_takes_labels_and_is_named(made, run, tmp_path):
    made.publish([b'{"id": "r-1", "text": "Good."}'])
    made.consume()
    (tmp_path / "labels.csv").write_text("review_id,label,annotator\nr-1,loud,ann\n")
    for command in (
        ("set", "r-1", "loud", "--task", "tone"), ("import", tmp_path / "labels.csv", "--task", "tone"),
    ):  # fmt: skip
        result = run(made, "label", *command, whole=True)
        assert "No adapter has the task tone (adapters have: sentiment, topic)" in result.stderr
    assert run(made, "label", "set", "r-1", "price", "--task", "topic", whole=True).stderr == ""
