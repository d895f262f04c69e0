"""CSV that leaves: nothing in it runs in a spreadsheet, and all of it comes back."""

import io
from typing import get_args, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reviews.csv_output import CsvWriter, escape_formula, to_csv, unescape_formula
from tests.command_tree import all_commands
from trainer.data.csv_table import open_text, read_csv
from trainer.data.table_rows import Column

_CELLS = st.text(st.sampled_from("a,;\"'\r\n\t=+-@ ü"), max_size=8)


def _read(content: str) -> list[list[str]]:
    columns = [Column(name, "--x") for name in ("one", "two")]
    text = open_text(io.BytesIO(content.encode()), may_be_broken=False)
    rows = read_csv(text, columns, ",", keep_all=False).rows
    return [[row.values[name] or "" for name in ("one", "two")] for row in rows]


def test_every_command_that_prints_csv_can_leave_its_cells_as_they_are() -> None:
    printing, raw = set(), set()
    for name, command in all_commands():
        kinds = get_type_hints(command.callback) if command.callback else {}
        kinds.pop("kind", None)  # what is read
        if any("csv" in get_args(part) for kind in kinds.values() for part in (kind, *get_args(kind))):
            printing.add(name)
            raw |= {name} if "raw" in kinds else set()
    assert {"query", "predict", "dead-letters list", "label export"} <= printing
    assert printing == raw


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(_CELLS, _CELLS), max_size=5))
def test_every_cell_comes_back_as_it_was(rows: list[tuple[str, str]]) -> None:
    assert _read(to_csv(("one", "two"), rows)) == [list(row) for row in rows]


def test_what_has_no_bytes_is_written_as_an_escape() -> None:
    assert to_csv(("one", "two"), [("\ud800", ["\ud800"])]).encode()


@given(_CELLS)
def test_the_apostrophe_before_a_formula_can_be_taken_off_again(cell: str) -> None:
    assert unescape_formula(escape_formula(cell)) == cell


@pytest.mark.parametrize("cell", ["=HYPERLINK(1)", "+1", "-1", "@x", "\t=1", "\r=1", "＝1"])
def test_a_text_that_a_spreadsheet_would_run_gets_an_apostrophe_and_raw_leaves_it(cell: str) -> None:
    written = []
    for raw in (False, True):
        output = io.StringIO(newline="")
        CsvWriter(output, raw=raw).write_row([cell, -1.5, None])
        written.append(output.getvalue())
    assert _read("one,two,three\n" + written[0])[0][0] == f"'{cell}"
    assert _read("one,two,three\n" + written[1])[0][0] == cell
    assert all(line.endswith(",-1.5,\n") for line in written)
