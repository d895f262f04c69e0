"""``reviewloop predict``, by its own command line, on a tiny model."""

import csv
import io
import json

import pytest
from typer.testing import CliRunner

from reviewloop.cli import app
from reviews.errors import WrongUse
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Give texts to classify"),
        (["a", "--file", "b"], "not both"),
        (["--file", "none.txt"], "none.txt cannot be read"),
    ],
)
def test_wrong_use_says_what_to_do(predict, arguments, message):
    with pytest.raises(WrongUse, match=message):
        predict(*arguments)


def test_a_row_without_the_column_is_named(predict, tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("body\na\n")
    with pytest.raises(WrongUse, match=r"Row 1 of .* has no 'text'; name the column"):
        predict("--file", str(file))
