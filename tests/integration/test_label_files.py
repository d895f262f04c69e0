"""Labels by files: imported once and whole or not at all, exported for others, and back."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reviews.errors import ReviewLoopError, WrongUse
from reviews.slices import SliceShares, slice_of
from tests.integration.in_process import InProcess, Stream, write

Run = Callable[..., str]


@pytest.fixture
def made(stream: Stream) -> InProcess:
    """Three scored reviews."""
    made = stream()
    texts = ["Good", "Great", "Bad"]
    reviews = [
        {"id": f"r{number}", "text": text, "product": "kettle", "published_at": "2026-03-01"}
        for number, text in enumerate(texts)
    ]
    made.publish([json.dumps(review).encode() for review in reviews])
    made.consume()
    return made


def _labels(made: InProcess) -> list[tuple[Any, ...]]:
    return made.sql(
        "SELECT r.review_id, l.label, l.annotator FROM label l JOIN review r USING (record) ORDER BY l.id"
    )


def test_a_file_is_imported_once_however_often_it_is_and_what_has_no_review_waits(
    made: InProcess, run: Run, tmp_path: Path
):
    file = write(tmp_path, "labels.csv", b"review_id,label\nr0,positive\nr1,unsure\nr9,negative\n")
    printed = run(made, "label", "import", file, "--annotator", "ann")
    assert printed == "Imported 2 labels; 1 wait for their review, 0 were there already.\n"
    printed = run(made, "label", "import", file, "--annotator", "ann")
    assert printed == "Imported 0 labels; 0 wait for their review, 3 were there already.\n"
    assert _labels(made) == [("r0", "positive", "ann"), ("r1", None, "ann")]
    assert made.sql("SELECT review_id FROM waiting_label") == [("r9",)]


def test_a_file_with_mistakes_changes_nothing_unless_they_may_be_skipped(
    made: InProcess, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    content = b'{"review_id": "r0", "label": "positive"}\n{"record": 5, "label": 0}\n{"review_id": "r1"}\n'
    file = write(tmp_path, "labels.jsonl", content)
    with pytest.raises(ReviewLoopError, match=r"2 of 3 rows of .* nothing was imported"):
        run(made, "label", "import", file, "--annotator", "ann")
    assert _labels(made) == []
    printed = run(made, "label", "import", file, "--annotator", "ann", "--skip-mistakes")
    assert printed.startswith("Imported 1 labels")


def test_labelling_again_keeps_history_and_the_latest_answer_is_shown(
    made: InProcess, run: Run, tmp_path: Path
):
    header = b"review_id,label,labelled_at,annotator\n"
    rows = b"r0,positive,2026-03-02,ann\nr0,negative,2026-03-03,ann\nr1,positive,2026-03-02,ann\n"
    run(made, "label", "import", write(tmp_path, "first.csv", header + rows))
    run(made, "label", "import", write(tmp_path, "second.csv", header + b"r1,negative,2026-03-04,bea\n"))
    assert len(_labels(made)) == 4
    shown = dict(made.sql("SELECT review_id, human_label FROM scored_reviews"))
    assert shown == {"r0": "negative", "r1": None, "r2": None}  # a tie is no consensus


def test_of_files_without_times_the_one_imported_later_is_the_later_answer(
    made: InProcess, run: Run, tmp_path: Path
):
    files = {
        label: write(tmp_path, f"{label}.csv", f"review_id,label\nr0,{label}\nr9,{label}\n".encode())
        for label in ("positive", "negative")
    }
    for label in ("positive", "negative", "positive", "negative"):
        said = run(made, "label", "import", files[label], "--annotator", "ann")
        assert said.startswith("Imported 1 labels; 1 wait")
        again = run(made, "label", "import", files[label], "--annotator", "ann")
        assert again == "Imported 0 labels; 0 wait for their review, 2 were there already.\n"
        shown = dict(made.sql("SELECT review_id, human_label FROM scored_reviews"))
        assert shown["r0"] == label
    assert [label for _, label, _ in _labels(made)] == ["positive", "negative"] * 2


@pytest.mark.parametrize("row", [b'r1,"Never closed', b"r1,posi,tive"])
def test_nothing_of_a_file_with_a_broken_row_is_imported(
    made: InProcess, run: Run, tmp_path: Path, row: bytes
):
    content = b"review_id,label\nr0,positive\n" + row + b"\nr2,negative\n"
    file = write(tmp_path, "labels.csv", content)
    with pytest.raises(ReviewLoopError, match="nothing was imported"):
        run(made, "label", "import", file, "--annotator", "ann")
    assert _labels(made) == []


def test_a_file_that_cannot_be_read_to_its_end_is_not_imported_in_part(
    made: InProcess, run: Run, tmp_path: Path
):
    file = write(tmp_path, "labels.csv", b'review_id,label\nr0,positive\nr1,"Never closed\nr2,negative\n')
    with pytest.raises(ReviewLoopError, match="nothing was imported"):
        run(made, "label", "import", file, "--annotator", "ann", "--skip-mistakes")
    assert _labels(made) == []


def test_names_that_a_spreadsheet_would_run_come_back_from_an_export_as_they_were(
    made: InProcess, run: Run, tmp_path: Path
):
    made.publish([json.dumps({"id": "=r(1)", "text": "Good"}).encode()])
    made.consume()
    file = write(
        tmp_path, "labels.jsonl", b'{"review_id": "=r(1)", "label": "positive", "annotator": "@ann"}'
    )
    run(made, "label", "import", file)
    for options, cell in (([], "'=r(1)"), (["--raw"], "=r(1)")):
        exported = run(made, "label", "export", "--answers", "--format", "csv", *options)
        assert [row["review_id"] for row in csv.DictReader(io.StringIO(exported))] == [cell]
        again = write(tmp_path, "again.csv", exported.encode())
        assert "Imported 0 labels; 0 wait" in run(made, "label", "import", again, *options)


def test_exported_answers_come_back_as_themselves(made: InProcess, run: Run, tmp_path: Path):
    file = write(tmp_path, "labels.csv", b"review_id,label,seconds\nr0,positive,2.5\nr1,unsure,\n")
    run(made, "label", "import", file, "--annotator", "ann")
    for form in ("csv", "jsonl"):
        exported = run(made, "label", "export", "--answers", "--format", form)
        read = (
            csv.DictReader(io.StringIO(exported)) if form == "csv" else map(json.loads, exported.splitlines())
        )
        assert [str(row["seconds"] or "") for row in read] == ["2.5", ""]
        again = write(tmp_path, f"again.{form}", exported.encode())
        assert "Imported 0 labels; 0 wait" in run(made, "label", "import", again)
    assert len(_labels(made)) == 2


def test_reviews_go_to_label_studio_and_come_back_labelled(made: InProcess, run: Run, tmp_path: Path):
    assert '<Choices name="sentiment" toName="text"' in run(made, "label", "export", "--config")
    run(made, "label", "import", write(tmp_path, "x.csv", b"review_id,label,annotator\nr0,positive,ann\n"))
    tasks = json.loads(run(made, "label", "export", "--unlabelled"))
    assert {task["data"]["review_id"] for task in tasks} == {"r1", "r2"}
    assert {task["predictions"][0]["model_version"] for task in tasks} == {"sentiment-0123456789ab"}
    for number, task in enumerate(tasks):
        result = task.pop("predictions")[0]["result"]
        task["id"] = number
        task["annotations"] = [
            {"id": number, "completed_by": 1, "result": result, "was_cancelled": False,
             "created_at": "2026-03-05T10:00:00Z", "updated_at": "2026-03-05T10:00:00Z"}
        ]  # fmt: skip
    file = write(tmp_path, "export.json", json.dumps(tasks).encode())
    assert "Imported 2 labels" in run(made, "label", "import", file)
    assert "Imported 0 labels" in run(made, "label", "import", file)
    models = dict(made.sql("SELECT review_id, label FROM scored_reviews"))
    humans = dict(made.sql("SELECT review_id, human_label FROM scored_reviews"))
    assert humans == {**models, "r0": "positive"}
    assert json.loads(run(made, "label", "export", "--unlabelled")) == []


def test_a_blind_export_keeps_the_models_answer_to_itself(made: InProcess, run: Run):
    assert all("predictions" not in task for task in json.loads(run(made, "label", "export", "--blind")))
    rows = list(csv.DictReader(io.StringIO(run(made, "label", "export", "--format", "csv", "--limit", 2))))
    assert {row["model_label"] for row in rows} <= {"positive", "negative"}
    assert len(rows) == 2
    blind = run(made, "label", "export", "--format", "jsonl", "--blind", "--product", "kettle").splitlines()
    assert len(blind) == 3
    assert not any("model_" in line for line in blind)
    assert run(made, "label", "export", "--format", "jsonl", "--product", "toaster") == ""


def test_no_export_says_what_the_model_says_of_an_audit_review(made: InProcess, run: Run):
    assert slice_of("r28", SliceShares()) == "audit"
    made.publish([json.dumps({"id": "r28", "text": "Good", "product": "toaster"}).encode()])
    made.consume()
    tasks = json.loads(run(made, "label", "export"))
    assert [task["data"]["review_id"] for task in tasks if "predictions" not in task] == ["r28"]
    row = json.loads(run(made, "label", "export", "--format", "jsonl", "--product", "toaster"))
    assert {name: value for name, value in row.items() if name.startswith("model_")} == {
        "model_label": None, "model_confidence": None, "model_margin": None, "model_adapter_version": None,
    }  # fmt: skip


def test_only_what_is_queued_is_exported_the_most_urgent_first(made: InProcess, run: Run):
    made.sql(
        "INSERT INTO label_task (record, task, reason, strategy, priority) "
        "SELECT record, 'sentiment', 'uncertain', 'test', CASE review_id WHEN 'r2' THEN 2 ELSE 1 END "
        "  FROM review WHERE review_id <> 'r1' RETURNING 1"
    )
    rows = run(made, "label", "export", "--queued", "--format", "jsonl").splitlines()
    assert [json.loads(row)["review_id"] for row in rows] == ["r2", "r0"]


def test_a_number_in_a_published_csv_is_the_label_that_it_is_in_an_imported_one(
    made: InProcess, run: Run, tmp_path: Path, topic: Callable[..., str]
):
    name = topic(1, prefix="labels")
    file = write(
        tmp_path, "labels.csv", b"review_id,label,labelled_at\nr0,1,2026-03-02\nr1,unsure,2026-03-02\n"
    )
    run(made, "label", "publish", file, "--annotator", "ann", "--topic", name)
    run(made, "label", "consume", "--topic", name, "--until-idle", 0.2)
    assert _labels(made) == [("r0", "positive", "ann"), ("r1", None, "ann")]
    assert "0 labels; 0 wait" in run(made, "label", "import", file, "--annotator", "ann")


@pytest.mark.parametrize("command", ["import", "publish"])
@pytest.mark.parametrize("option", ["--annotator", "--task"])
def test_a_name_that_no_label_can_bear_is_refused(
    made: InProcess, run: Run, tmp_path: Path, command: str, option: str
):
    file = write(tmp_path, "labels.csv", b"review_id,label\nr0,positive\n")
    with pytest.raises(WrongUse, match=f"{option} is not a valid name: .*256 characters"):
        run(made, "label", command, file, "--annotator", "ann", option, "x" * 257)
    assert _labels(made) == []


def test_labels_of_a_file_are_published_to_their_topic(
    made: InProcess, run: Run, tmp_path: Path, topic: Callable[..., str]
):
    name = topic(1, prefix="labels")
    content = (
        b'{"review_id": "r0", "label": 1, "labelled_at": "2026-03-02"}\n{"record": 5, "label": 0}\n'
        b'{"review_id": "r0", "label": 0, "labelled_at": "2106-02-07"}\n'
    )
    file = write(tmp_path, "labels.jsonl", content)
    with pytest.raises(ReviewLoopError, match="2 rows of"):
        run(made, "label", "publish", file, "--annotator", "ann", "--topic", name)
    from tests.integration.in_process import read_topic

    (record,) = read_topic(made.kafka.bootstrap_servers or "", name, 1)
    assert json.loads(record.value) == {
        "task": "sentiment", "review_id": "r0", "label": 1, "annotator": "ann",
        "labelled_at": "2026-03-02T00:00:00Z",
    }  # fmt: skip
