"""Rows on standard output: what a narrow terminal keeps, what a pipe gets, and that nothing is obeyed."""

import csv
import io
import json
import re

import pytest

from reviewloop.cli.output import print_record, print_rows, print_table

LONG_ID = "r-" + "0123456789" * 12
HOSTILE = "\x1b[2J\x9b31m[/][bold]x"


@pytest.fixture
def terminal(monkeypatch):
    """Makes standard output a terminal of that width, as far as tables look at it."""

    def make(columns: int) -> None:
        monkeypatch.setenv("TTY_COMPATIBLE", "1")
        monkeypatch.setenv("COLUMNS", str(columns))

    return make


def _row(**more):
    values = {"review_id": "review-00042", "label": "negative", "confidence": 0.912, "text": "word " * 60,
              "product": "shirt", "scored_at": "2026-11-29 07:00:00"}  # fmt: skip
    return values | more


def _printed(capsys, rows):
    print_rows(rows, "table", table_columns=tuple(_row()))
    return _uncoloured(capsys.readouterr().out)


def _uncoloured(text):
    """Without the styles that a table itself has."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_a_narrow_terminal_loses_the_last_columns_and_says_which(terminal, capsys):
    terminal(80)
    out = _printed(capsys, [_row()])
    assert max(map(len, out.splitlines())) <= 80
    assert all(part in out for part in ("review-00042", "negative", "0.912", "word word"))
    assert "2026" not in out
    assert "No room for: product, scored_at." in out
    terminal(120)
    out = _printed(capsys, [_row()])
    assert "2026-11-29 07:00:00" in out
    assert "No room" not in out


def test_an_id_is_folded_rather_than_cut(terminal, capsys):
    terminal(50)
    out = _printed(capsys, [_row(review_id=LONG_ID)])
    cells = [line.split("│")[1].strip() for line in out.splitlines() if line.startswith("│")]
    assert "".join(cells) == LONG_ID
    assert all(part in out for part in ("negative", "0.912")), "it leaves room for what one came for"
    terminal(160)
    assert LONG_ID in _printed(capsys, [_row(review_id=LONG_ID)])


def test_a_wide_value_in_a_later_column_is_whole_or_not_there(terminal, capsys):
    terminal(100)
    out = _printed(capsys, [_row(product="p" * 90)])
    assert "ppp" not in out
    assert "No room for: product, scored_at." in out


def test_a_table_in_a_pipe_has_every_column_whole(capsys):
    out = _printed(capsys, [_row(product="p" * 300)])
    assert "p" * 300 in out
    assert "2026-11-29 07:00:00" in out


def test_nothing_in_a_table_is_obeyed_or_read_as_markup(terminal, capsys):
    terminal(80)
    print_table((HOSTILE, "b"), [(HOSTILE, 1)], title=HOSTILE)
    out = _uncoloured(capsys.readouterr().out)
    assert not {mark for mark in out if not mark.isprintable()} - {"\n"}
    assert out.count("[/][bold]x") == 3


def test_json_lines_escape_what_a_terminal_obeys_and_lose_nothing(capsys):
    rows = [{"text": HOSTILE + "\u202e\u2028", "raw": b"\xff", "labels": ["é", "👩\u200d👧"]}]
    print_rows(rows, "jsonl", table_columns=())
    out = capsys.readouterr().out
    assert "\u200d" in out, "joiners are letters"
    assert not {mark for mark in out if not mark.isprintable()} - {"\n", "\u200d"}
    assert json.loads(out) == rows[0] | {"raw": "\\xff"}


def test_csv_in_a_file_comes_back_as_it_was(capsys):
    print_rows([{"text": HOSTILE, "n": None}], "csv", table_columns=())
    assert list(csv.reader(io.StringIO(capsys.readouterr().out))) == [["text", "n"], [HOSTILE, ""]]


def test_no_value_of_a_record_looks_like_another_field(capsys):
    print_record({"key": "a\u2028state: replayed", "state": "waiting"}, "table")
    assert capsys.readouterr().out == "  key: a\n       state: replayed\nstate: waiting\n"


def test_a_record_is_a_line_for_each_field_or_one_json_object(capsys):
    record = {"name": HOSTILE, "labels": ("a", "b"), "none": None}
    print_record(record, "table")
    assert capsys.readouterr().out == "  name: ␛[2J\ufffd31m[/][bold]x\nlabels: a, b\n  none: \n"
    for form in ("json", "jsonl"):
        print_record(record, form)
        out = capsys.readouterr().out
        assert json.loads(out) == {"name": HOSTILE, "labels": ["a", "b"], "none": None}
        assert (out.count("\n") == 1) is (form == "jsonl")
