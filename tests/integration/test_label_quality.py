"""How far labels can be trusted: agreement and suspects from what the database holds."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reviewloop.cli import app
from reviews.slices import SliceShares, slice_of
from tests.integration.in_process import Stream, write

Run = Callable[..., str]


def test_agreement_and_suspects_come_from_the_stored_answers_and_scores(
    stream: Stream, run: Run, tmp_path: Path
):
    made = stream()
    # The classifier calls texts of even length positive: "Good" is, "Bad" is not.
    reviews = [{"id": f"r{number}", "text": "Good" if number % 2 else "Bad"} for number in range(12)]
    made.publish([json.dumps(review).encode() for review in reviews])
    made.consume()
    truth = ["positive" if number % 2 else "negative" for number in range(12)]
    wrong = {3: "negative", 4: "positive", 5: "negative"}
    rows = [f"r{number},{wrong.get(number, label)},ann" for number, label in enumerate(truth)]
    rows += [f"r{number},{label},bea" for number, label in enumerate(truth[:3])]
    rows += ["r5,negative,bea", "r6,unsure,bea", "r7,negative,cem"]
    file = write(tmp_path, "labels.csv", "\n".join(["review_id,label,annotator", *rows]).encode())
    run(made, "label", "import", file)

    everyone, ann, bea, cem = map(json.loads, run(made, "label", "agreement").splitlines())
    assert (everyone["compared"], everyone["answers"], everyone["unsure"]) == (5, 10, 1)
    # 5 records with two answers, 3 positive and 7 negative; one of them has one of each.
    assert everyone["alpha"] == pytest.approx(1 - 9 * 2 / (10**2 - 3**2 - 7**2))
    assert (ann["answers"], ann["compared"], ann["agrees"]) == (12, 5, 0.8)
    assert (bea["answers"], bea["unsure"], bea["agrees"]) == (4, 1, 1.0)
    assert (cem["annotator"], cem["agrees"]) == ("cem", 0.0)

    # r5 was given twice, and r7 has no consensus: neither is a suspect.
    found = [json.loads(line) for line in run(made, "label", "suspects", "--queue").splitlines()]
    assert sorted((row["review_id"], row["label"], row["suggested"]) for row in found) == [
        ("r3", "negative", "positive"),
        ("r4", "positive", "negative"),
    ]
    queued = made.sql(
        "SELECT r.review_id, q.reason FROM label_task q JOIN review r USING (record) ORDER BY 1"
    )
    assert queued == [("r3", "second_look")], "r4 is of the test slice"
    again = write(tmp_path, "again.csv", b"review_id,label,annotator\nr3,positive,bea\nr3,positive,cem\n")
    run(made, "label", "import", again)
    assert made.sql("SELECT human_label FROM scored_reviews WHERE review_id = 'r3'") == [("positive",)]
    assert made.sql("SELECT state FROM label_task q JOIN review r USING (record) WHERE review_id = 'r3'") == [
        ("done",)
    ]
    left = [json.loads(line)["review_id"] for line in run(made, "label", "suspects").splitlines()]
    assert left == ["r4"]


def test_what_the_gate_judges_by_is_not_looked_at_again_because_the_model_says_so(
    stream: Stream, run: Run, tmp_path: Path
):
    made = stream()
    wrong = {"r3": "validation", "r4": "test", "r28": "audit"}
    ids = [*(f"r{number}" for number in range(12)), "r28"]
    assert {id_: slice_of(id_, SliceShares()) for id_ in wrong} == wrong
    texts = ["Good" if int(id_[1:]) % 2 else "Bad" for id_ in ids]
    made.publish(
        [json.dumps({"id": id_, "text": text}).encode() for id_, text in zip(ids, texts, strict=True)]
    )
    made.consume()
    rows = [
        f"{id_},{'positive' if (text == 'Good') is (id_ not in wrong) else 'negative'},ann"
        for id_, text in zip(ids, texts, strict=True)
    ]
    file = write(tmp_path, "labels.csv", "\n".join(["review_id,label,annotator", *rows]).encode())
    run(made, "label", "import", file)
    result = CliRunner().invoke(app, ["label", "suspects", "--queue"])
    assert "1 of 3 were queued for a second look; 2 are of the test and audit slices" in result.stderr
    assert made.sql("SELECT review_id FROM label_task JOIN review USING (record)") == [("r3",)]
