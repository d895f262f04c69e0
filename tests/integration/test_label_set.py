"""`reviewloop label set`: one answer about one review."""

import json
from collections.abc import Callable

import pytest

from reviews.errors import WrongUse
from storage.labels.store import LabelStore
from tests.integration.in_process import Stream

Run = Callable[..., str]


def test_one_answer_is_about_the_current_version_and_follows_what_was_said_before(stream: Stream, run: Run):
    made = stream()
    versions = [{"id": "r-1", "text": text, "published_at": "2026-01-31"} for text in ("Lovely.", "Shrank.")]
    made.publish([json.dumps(version).encode() for version in versions])
    made.consume()
    (current,) = made.sql("SELECT record FROM review WHERE text = 'Shrank.'")[0]
    made.sql(
        "INSERT INTO label (record, task, label, annotator, source, labelled_at) "
        "VALUES (%s, 'sentiment', 'positive', 'ann', 'topic', '2106-02-07') RETURNING id", current
    )  # fmt: skip

    said = run(made, "label", "set", "r-1", "0", "--annotator", "ann")

    assert said == "'r-1' is negative for the task 'sentiment', says ann.\n"
    assert made.sql("SELECT text, human_label FROM scored_reviews") == [("Shrank.", "negative")]
    run(made, "label", "set", "r-1", "unsure", "--annotator", "ann")
    assert LabelStore(made.database).consensus("sentiment", [current]) == {current: None}
    for arguments, words in (
        (("r-2", "negative"), "No review 'r-2' is stored"),
        (("r-1", "lovely"), r"negative \(0\), positive \(1\), or unsure"),
    ):
        with pytest.raises(WrongUse, match=words):
            run(made, "label", "set", *arguments)
    assert made.sql("SELECT count(*) FROM label") == [(3,)]
