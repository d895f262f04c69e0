"""``forget`` as an operator uses it: on a real Kafka, nothing comes back, and what is published anew does."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from reviews.errors import WrongUse
from tests.integration.in_process import InProcess, Stream

Run = Callable[..., str]
ID = "ann-4711"


def _message(review_id: str, said: str, **more: object) -> bytes:
    return json.dumps({"id": review_id, "text": said, **more}).encode()


def _ids(made: InProcess) -> list[str]:
    return [row[0] for row in made.sql("SELECT review_id FROM scored_reviews ORDER BY 1")]


def test_an_erased_review_comes_back_by_no_way_but_a_new_publication(stream: Stream, run: Run):
    made = stream()
    made.publish([_message(ID, "Planted text, first version."), _message("b", "Another review.")])
    made.publish([_message(ID, "Planted text, broken.", stars=99)])
    made.consume()
    made.publish([_message(ID, "Planted text, second version.")])  # not read yet
    receipt = json.loads(
        run(made, "forget", ID, "--reason", "She asked for it.", "--yes", "--format", "json")
    )
    assert receipt["state"] == "closed"
    assert {one["place"]: one["rows"] for one in receipt["findings"] if one["state"] == "erased"} == {
        "dead_letter": 1, "prediction": 1, "review": 1,
    }  # fmt: skip
    made.consume()
    assert _ids(made) == ["b"]
    made.database.execute(text("UPDATE stream_partition SET next_offset = 0"))  # as a restore would
    made.database.execute(text("DELETE FROM review; DELETE FROM prediction"))
    made.consume()
    assert _ids(made) == ["b"]
    assert made.sql("SELECT count(*) FROM dead_letter") == [(0,)]
    made.publish([_message(ID, "I write again.")])
    made.consume()
    assert _ids(made) == [ID, "b"]
    assert json.loads(run(made, "forget", "--list"))["state"] == "closed"
    assert json.loads(run(made, "forget", "--show", 1, "--format", "json"))["seal"] == receipt["seal"]
    assert made.sql("SELECT action, outcome FROM audit_log") == [("review.forget", "done")]


def test_reviews_are_named_by_file_and_by_what_they_have_in_common(stream: Stream, run: Run, tmp_path: Path):
    made = stream()
    made.publish([_message(f"r{n}", f"Review {n}.", product="kettle" if n < 2 else "pan") for n in range(5)])
    made.consume()
    file = tmp_path / "ids.csv"
    file.write_text("id,why\nr3,asked\nr4,asked\n")
    options = ("--file", file, "--attribute", "product=kettle")
    assert run(made, "forget", *options, "--dry-run") == "4 reviews would be erased.\n"
    run(made, "forget", *options, "--yes")
    assert _ids(made) == ["r2"]
    with pytest.raises(WrongUse, match="No review is named"):
        run(made, "forget", "--attribute", "product=kettle", "--yes")
    with pytest.raises(WrongUse, match="Name reviews"):
        run(made, "forget")


def test_nothing_is_erased_without_a_yes(stream: Stream, run: Run):
    made = stream()
    made.publish([_message(ID, "Planted text.")])
    made.consume()
    with pytest.raises(WrongUse, match="Nothing was erased"):
        run(made, "forget", ID, input_bytes=b"n\n")
    assert _ids(made) == [ID]
