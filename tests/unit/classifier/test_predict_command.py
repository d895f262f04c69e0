"""``reviewloop predict``, by its own command line, on a tiny model."""

import csv
import io
import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reviewloop.cli import app
from reviewloop.demo.sample import ADAPTER_DIRECTORY, adapter_directory
from reviews.errors import ReviewLoopError, WrongUse
from tests.tiny import SENTIMENTS


@pytest.fixture
def predict(base, adapter, monkeypatch):
    monkeypatch.setenv("REVIEWLOOP_CLASSIFIER__DEVICE", "cpu")

    def run(*arguments, stdin=None):
        named = ["--adapter", str(adapter), "--base-model", str(base)]
        result = CliRunner().invoke(app, ["predict", *named, *arguments], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.output

    return run


def test_each_text_has_a_label_a_confidence_and_every_probability(predict):
    (line,) = predict("I like it.").splitlines()
    said = json.loads(line)
    assert said["text"] == "I like it."
    assert set(said["probabilities"]) == set(SENTIMENTS)
    assert said["confidence"] == max(said["probabilities"].values()) == said["probabilities"][said["label"]]
    assert said["adapter_version"].startswith("sentiment-")


def test_a_table_shows_the_same(predict):
    shown = predict("I like it.", "[bold]markup[/bold]", "--format", "table")
    assert "confidence" in shown
    assert "[bold]markup[/bold]" in shown


def test_csv_can_be_read_back(predict):
    rows = list(csv.DictReader(io.StringIO(predict('a, "b"', "c", "--format", "csv"))))
    assert [row["text"] for row in rows] == ['a, "b"', "c"]
    assert sum(float(rows[0][label]) for label in SENTIMENTS) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.txt", "one\n\ntwo\n"),
        ("rows.csv", "id,text\n1,one\n2,two\n"),
        ("rows.jsonl", '{"text": "one"}\n{"text": "two", "id": 3}\n'),
    ],
)
def test_texts_may_come_from_a_file(predict, tmp_path, name, content):
    file = tmp_path / name
    file.write_text(content)
    said = [json.loads(line)["text"] for line in predict("--file", str(file)).splitlines()]
    assert said == ["one", "two"]


def test_texts_may_come_from_standard_input(predict):
    assert [json.loads(line)["text"] for line in predict("--file", "-", stdin="one\ntwo\n").splitlines()] == [
        "one",
        "two",
    ]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_what_else_is_in_a_row_stays_in_it(predict, tmp_path, kind):
    file = tmp_path / "rows.csv"
    file.write_text("id;body;label;;;stars\n1;one;good;;;5\n2;two;;;;\n")
    out = predict("--file", str(file), "--text-column", "body", "--format", kind)
    rows = list(csv.DictReader(io.StringIO(out))) if kind == "csv" else [*map(json.loads, out.splitlines())]
    assert [(row["id"], row["body"], row["label"] or None) for row in rows] == [
        ("1", "one", "good"), ("2", "two", None),
    ]  # fmt: skip
    assert {row["model_label"] for row in rows} <= set(SENTIMENTS)
    assert rows[0]["stars"] == "5"
    assert "confidence" in rows[0]


def test_what_the_model_says_replaces_no_column_also_when_it_said_something_before(predict, tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("text,label,model_label\none,good,bad\n")
    (row,) = map(json.loads, predict("--file", str(file)).splitlines())
    assert (row["label"], row["model_label"]) == ("good", "bad")
    header = predict("--file", str(file), "--format", "csv").splitlines()[0].split(",")
    assert header[:5] == ["text", "label", "model_label", "model_model_label", "confidence"]


@pytest.mark.parametrize("content", ["id,text\n1,\n2,two\n", "id,text\n1,Nice, but small\n2,two\n"])
def test_a_row_without_a_text_is_named_and_left_out(predict, tmp_path, content):
    file = tmp_path / "rows.csv"
    file.write_text(content)
    with pytest.raises(ReviewLoopError, match=r"1 rows of .* left out") as error:
        predict("--file", str(file))
    assert not isinstance(error.value, WrongUse)  # exit code 1, not 2


def test_a_text_that_a_spreadsheet_would_run_is_printed_so_only_when_asked(predict):
    for options, cell in (((), "'=1"), (("--raw",), "=1")):
        (row,) = csv.DictReader(io.StringIO(predict("=1", "--format", "csv", *options)))
        assert row["text"] == cell


def test_csv_gains_no_column_after_its_header(predict, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["reviewloop.cli.predict"], "_CHUNK_TEXTS", 2)
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "a"}\n{"text": "b", "n": 1}\n{"text": "c", "m": 2}\n')
    assert len(predict("--file", str(file)).splitlines()) == 3
    with pytest.raises(WrongUse, match="line 3 has the field 'm'"):
        predict("--file", str(file), "--format", "csv")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Give texts to classify"),
        (["a", ""], "text 2 cannot be scored"),
        (["a", "--file", "b"], "not both"),
        (["--file", "none.txt"], "none.txt cannot be read"),
    ],
)
def test_wrong_use_says_what_to_do(predict, arguments, message):
    with pytest.raises(WrongUse, match=message):
        predict(*arguments)


def test_a_file_without_the_column_is_refused_before_the_model_is_loaded(predict, tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("body\na\n")
    with pytest.raises(WrongUse, match=r"no column 'text' \(it has: body\): name it with --text-column"):
        predict("--file", str(file), "--adapter", str(tmp_path / "none"))


def test_the_bundled_adapter_has_a_name_of_its_own_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert adapter_directory(Path("demo")) == ADAPTER_DIRECTORY
    (tmp_path / "demo").mkdir()
    assert adapter_directory(Path("demo")) == ADAPTER_DIRECTORY, "a folder without an adapter is none"
    (tmp_path / "demo" / "adapter_config.json").touch()
    assert adapter_directory(Path("demo")) == Path("demo")
