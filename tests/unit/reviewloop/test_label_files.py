"""Labels in files: what each row becomes, and what is wrong with it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reviewloop.files.label_studio import to_config, to_task
from reviewloop.files.labels import (
    Defaults,
    Import,
    LabelColumns,
    LabelFileRow,
    later_answers,
    read_labels,
    to_labels,
)
from reviews.errors import WrongUse
from reviews.label import Label, LatestAnswer, UnpinnedLabel, Vocabulary
from trainer.data.table_rows import shown_mistakes

NOW = datetime(2026, 3, 9, tzinfo=UTC)
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
VOCABULARIES = {
    "sentiment": Vocabulary(("negative", "positive")),
    "stars": Vocabulary(("5", "4", "3", "2", "1")),
}


def _rows(
    folder: Path, name: str, content: str | bytes, control: str | None = None, **columns: str
) -> list[LabelFileRow]:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    named = LabelColumns(**columns, named=frozenset(columns))
    return read_labels(file, named, "sentiment", control).rows


def _labels(rows: list[LabelFileRow], **more: Any) -> Import:
    return to_labels(rows, Defaults("sentiment", "ann", NOW), VOCABULARIES, **more)


def _all(found: Import) -> list[Any]:
    return [*found.dated, *found.undated]


def test_csv_rows_become_labels_with_the_defaults_for_what_they_leave_out(tmp_path: Path):
    rows = _rows(
        tmp_path,
        "labels.csv",
        "review_id,label,annotator,labelled_at,record,note\n"
        "1,positive,bea,2026-03-01T12:00:00Z,,x\n"
        "2,unsure,,,,\n"
        ",1,,,77,\n",
    )
    found = _labels(rows)
    assert found.mistakes == []
    first, second, third = _all(found)
    assert first[:6] == ("1", "sentiment", "positive", "bea", "import", AT)
    assert second[:6] == ("2", "sentiment", None, "ann", "import", NOW)
    assert isinstance(third, Label)
    assert third[:6] == (77, "sentiment", "positive", "ann", "import", NOW)


def test_columns_of_other_names_are_found(tmp_path: Path):
    rows = _rows(tmp_path, "x.csv", "key,answer\n1,negative\n", review_id="key", label="answer")
    assert [row.row and row.row.label for row in rows] == ["negative"]
    lines = '{"key": "1", "answer": 0}\n\n{"key": "2", "answer": null}\n'
    rows = _rows(tmp_path, "x.jsonl", lines, review_id="key", label="answer")
    assert [label.label for label in _all(_labels(rows))] == ["negative", None]


def test_every_mistake_is_named_with_its_place_and_the_other_rows_are_read(tmp_path: Path):
    lines = [
        b"no json",
        b'{"review_id": "1", "label": "lovely"}',
        b'{"review_id": "1", "label": 2}',
        b'{"label": "positive"}',
        b'{"record": -1, "label": "positive"}',
        b'{"record": 9, "label": "positive"}',
        b'{"review_id": "1", "label": "positive", "labelled_at": "yesterday"}',
        b'{"review_id": "\xff", "label": "positive", "note": "f\xc3\xbcr m\xc3\xbcde F\xc3\xbc\xc3\x9fe"}',
        b'{"review_id": "1", "label": "positive"}',
    ]
    found = _labels(_rows(tmp_path, "x.jsonl", b"\n".join(lines)), unknown_records={9})
    assert [row.error.reason for row in found.mistakes] == [
        "not_json", "unknown_label", "unknown_label", "missing_review_id", "bad_record", "unknown_record",
        "bad_labelled_at", "not_utf8",
    ]  # fmt: skip
    assert [row.place for row in found.mistakes] == [f"line {number}" for number in range(1, 9)]
    assert len(_all(found)) == 1
    shown = shown_mistakes(found.mistakes, most=2)
    assert shown[1] == "line 2: The label is none of its task's: negative (0), positive (1), or unsure."
    assert shown[2] == "… and 6 more"


def test_nobody_is_no_annotator(tmp_path: Path):
    rows = _rows(tmp_path, "x.csv", "review_id,label\n1,positive\n")
    found = to_labels(rows, Defaults("sentiment", None, NOW), VOCABULARIES)
    assert [row.error.reason for row in found.mistakes] == ["missing_annotator"]


def test_digits_in_csv_are_a_name_where_the_task_has_it_and_else_a_number(tmp_path: Path):
    rows = _rows(tmp_path, "x.csv", "review_id,label,task\n1,0,sentiment\n2,5,stars\n3,0,stars\n4,5,other\n")
    found = _labels(rows)
    assert [label.label for label in _all(found)] == ["negative", "5", "5", "5"]


def test_a_row_of_a_time_to_come_is_no_label_but_for_what_clocks_differ_by(tmp_path: Path):
    moments = [AT + timedelta(minutes=minutes) for minutes in (4, 6, 80 * 365 * 24 * 60)]
    csv = "\n".join(
        ["review_id,label,labelled_at", *(f"1,positive,{moment.isoformat()}" for moment in moments)]
    )
    defaults = Defaults("sentiment", "ann", AT, timedelta(minutes=5))
    found = to_labels(_rows(tmp_path, "a.csv", csv), defaults, VOCABULARIES)
    assert [label.labelled_at for label in _all(found)] == moments[:1]
    assert [row.error.reason for row in found.mistakes] == ["labelled_in_future"] * 2


def test_models_answer_by_their_name_or_by_an_account_that_the_settings_name_and_answers_bring_their_time(
    tmp_path: Path,
):
    csv = (
        "review_id,label,annotator,seconds\n"
        "1,positive,model:gpt,0.5\n2,positive,bot@example.org,\n3,negative,ann,1200\n4,negative,MODEL:gpt,1\n"
    )
    defaults = Defaults("sentiment", None, AT, models={"bot@example.org": "claude"})
    found = to_labels(_rows(tmp_path, "a.csv", csv), defaults, VOCABULARIES)
    assert [(label.annotator, label.seconds) for label in _all(found)] == [
        ("model:gpt", 0.5),
        ("model:claude", None),
        ("ann", 600.0),
    ]
    assert [(row.place, row.error.reason) for row in found.mistakes] == [("line 5", "bad_annotator")]


def _news(found: Import, *latest: LatestAnswer | None) -> list[Any]:
    before = latest or (None,) * len(found.undated)
    return [*found.dated, *later_answers(found.undated, before)]


def test_a_row_has_the_same_mark_whenever_and_wherever_it_is_imported_and_no_other_row_has_it(tmp_path: Path):
    csv = "review_id,label,labelled_at\n1,positive,\n1,negative,\n2,positive,\n1,positive,2026-03-01T12:00\n"
    first = _news(_labels(_rows(tmp_path, "a.csv", csv)))
    answers = [("1", "positive", None), ("1", "negative", None), ("2", "positive", None)]
    lines = [
        {"review_id": name, "label": label, "labelled_at": moment}
        for name, label, moment in [*answers, ("1", "positive", AT.isoformat())]
    ]
    rows = _rows(tmp_path, "b.jsonl", "\n".join(map(json.dumps, lines)))
    again = _news(to_labels(rows, Defaults("sentiment", "ann", AT), VOCABULARIES))
    assert [label.origin for label in first] == [label.origin for label in again]
    assert len({label.origin for label in first}) == 4
    assert all(label.origin is not None and -(2**62) <= label.origin < 0 for label in first)


def test_what_a_file_without_times_ends_with_is_the_later_answer_unless_it_counts_already(tmp_path: Path):
    found = _labels(_rows(tmp_path, "a.csv", "review_id,label\n1,positive\n1,negative\n1,positive\n"))
    said = _news(found)
    assert [label.label for label in said] == ["positive", "negative", "positive"]
    assert len({label.origin for label in said}) == len({label.labelled_at for label in said}) == 3
    assert said == sorted(said, key=lambda label: label.labelled_at)
    assert _news(found, *[LatestAnswer("positive", AT, is_taken_back=False)] * 3) == []
    for before in (
        LatestAnswer("negative", AT, is_taken_back=False), LatestAnswer("positive", AT, is_taken_back=True)
    ):  # fmt: skip
        corrected = _news(found, *[before] * 3)
        assert [label.label for label in corrected] == ["positive", "negative", "positive"]
        assert not {label.origin for label in corrected} & {label.origin for label in said}
        assert corrected == _news(found, *[before] * 3)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.txt", "", "x.txt is empty"),
        ("x.csv", "a,b\n1,2\n", r"no column 'label' \(it has: a, b\): name it with --label-column"),
        ("x.json", '{"id": 1}', "no column 'label'"),
        ("x.json", '[{"id": 1, "sentiment": "positive"}]', r"it has: id, sentiment\)"),
        ("x.json", '[{"data": {}, "completions": [{"result": []}]}]', "before 1.0"),
        ("x.json", '[{"data": {}, "annotations": []}, {"data": {}}]', "Task 2 is none of Label Studio's"),
        ("x.json", '[{"data": {}, "annotations": null}]', "Task 1 is none of Label Studio's"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, name: str, content: str | bytes, words: str):
    with pytest.raises(WrongUse, match=words):
        _rows(tmp_path, name, content)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(WrongUse, match="cannot be read: No such file"):
        read_labels(tmp_path / "none.csv", LabelColumns(), "sentiment")


ITEM = {
    "record": 2**60 + 1, "review_id": "r1", "text": 'It "works".', "product": None, "source": "shop",
    "published_at": AT, "label": "positive", "confidence": 0.75, "margin": 0.5, "adapter_version": "s-1",
}  # fmt: skip


def _annotated(*results: Any, **fields: Any) -> dict[str, Any]:
    """A task as Label Studio exports it after somebody annotated it there."""
    task = json.loads(json.dumps(to_task(ITEM, "sentiment", blind=False)))
    annotation = {
        "id": 5, "completed_by": 7, "result": list(results), "was_cancelled": False, "ground_truth": False,
        "created_at": "2026-03-01T11:00:00.000000Z", "updated_at": "2026-03-01T12:00:00.000000Z",
        "lead_time": 4.2, "task": 1, **fields,
    }  # fmt: skip
    return {"id": 1, "project": 3, **task, "annotations": [annotation], "drafts": [], "meta": {}}


def _choice(*choices: Any, name: str = "sentiment") -> dict[str, Any]:
    return {
        "id": "x", "from_name": name, "to_name": "text", "type": "choices", "origin": "manual",
        "value": {"choices": list(choices)},
    }  # fmt: skip


def test_a_task_for_label_studio_has_the_review_and_the_models_answer_in_its_format():
    assert to_task(ITEM, "sentiment", blind=False) == {
        "data": {
            "record": "1152921504606846977", "review_id": "r1", "text": 'It "works".', "source": "shop",
            "published_at": "2026-03-01T12:00:00+00:00",
        },
        "predictions": [
            {
                "model_version": "s-1",
                "score": 0.75,
                "result": [
                    {
                        "from_name": "sentiment", "to_name": "text", "type": "choices",
                        "value": {"choices": ["positive"]},
                    }
                ],
            }
        ],
    }  # fmt: skip
    assert "predictions" not in to_task(ITEM, "sentiment", blind=True)
    assert '<Choice value="positive"/>\n    <Choice value=\'a "b"\'/>' in to_config(
        "s", ["positive", 'a "b"']
    )


@pytest.mark.parametrize("control", ["sentiment", "whatever"])
def test_what_label_studio_exports_comes_back_with_its_record_its_annotator_and_its_time(
    tmp_path: Path, control: str
):
    task = _annotated(_choice("negative", name=control))
    del task["predictions"]
    rows = _rows(tmp_path, "x.json", json.dumps([task]))
    (label,) = _all(_labels(rows))
    assert isinstance(label, Label)
    assert label[:6] == (2**60 + 1, "sentiment", "negative", "label-studio:7", "import", AT)


def test_only_what_was_answered_under_the_tasks_own_tag_is_its_label(tmp_path: Path):
    both = _annotated(_choice("long", name="length"), _choice("negative"), {"type": "rating", "value": {}})
    other = _annotated(_choice("positive", name="quality"))
    found = _labels(_rows(tmp_path, "x.json", json.dumps([both, other])))
    assert [label.label for label in _all(found)] == ["negative"]
    assert (found.mistakes, found.silent) == ([], 1)
    rows = _rows(tmp_path, "x.json", json.dumps([both, other]), control="quality")
    assert [row.row and row.row.label for row in rows] == [None, "positive"]


def test_a_tag_that_is_not_there_or_not_clear_is_refused(tmp_path: Path):
    tasks = [_annotated(_choice("positive", name=name)) for name in ("quality", "length")]
    for task in tasks:
        del task["predictions"]
    with pytest.raises(WrongUse, match=r"tags length, quality, and none is called 'sentiment' .*--control"):
        _rows(tmp_path, "x.json", json.dumps(tasks))
    with pytest.raises(WrongUse, match=r"no Choices tag 'sentiment' \(it has: length, quality\)"):
        _rows(tmp_path, "x.json", json.dumps(tasks), control="sentiment")


def test_annotations_that_were_skipped_say_nothing_and_strange_ones_are_mistakes(tmp_path: Path):
    tasks = [
        _annotated(was_cancelled=True),
        _annotated(),
        _annotated(_choice("negative", "positive")),
        _annotated(_choice(7)),
        {"data": {"text": "x"}, "annotations": [None, {"result": "x"}]},
        {"data": None, "annotations": [{"result": [_choice("negative")]}]},
        _annotated(_choice("unsure"), completed_by={"id": 1, "email": "ann@example.org"}),
    ]
    rows = _rows(tmp_path, "x.json", json.dumps(tasks))
    assert [(row.place, row.error and row.error.reason) for row in rows] == [
        ("task 2, annotation 1", "bad_label"),
        ("task 3, annotation 1", "bad_label"),
        ("task 4, annotation 1", "bad_label"),
        ("task 5, annotation 1", "not_an_object"),
        ("task 5, annotation 2", "bad_label"),
        ("task 6, annotation 1", "missing_review_id"),
        ("task 7, annotation 1", None),
    ]
    (label,) = _all(_labels(rows))
    assert (label.annotator, label.label) == ("ann@example.org", None)
    assert not isinstance(label, UnpinnedLabel)
