"""Tables: one content is the same rows in every format, packing, encoding and with every delimiter."""

import bz2
import codecs
import gzip
import io
import json
import lzma
import os
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest
from pyarrow import parquet

from reviews.errors import InvalidMessage, WrongUse
from trainer.data import csv_table, json_table, parquet_table
from trainer.data.table_rows import BrokenTable, Column
from trainer.data.table_source import Form, Kind
from trainer.data.tables import checked_rows, open_table

AS_FOUND = Form()
TEXT = Column("text", "--text-column")
COLUMNS = (TEXT, Column("id", "--id-column", is_required=False))
ROWS = [("a", 'Nice, "very" nice'), ("b", "zwei\nZeilen; für | müde Füße\t."), ("c", "a\rb")]


def _read(file: Path, form: Form = AS_FOUND, columns=COLUMNS, **more) -> list[tuple[str, object]]:
    """Place and values, or place and the reason of the mistake."""
    found = []
    with open_table(file, columns, form, **more) as table:
        for row in checked_rows(table, columns):
            try:
                found.append((row.place, dict(row.values)))
            except InvalidMessage as err:
                found.append((row.place, err.reason))
    return found


def _file(folder: Path, name: str, content: bytes | str) -> Path:
    file = folder / name
    raw = content.encode() if isinstance(content, str) else content
    file.write_bytes(gzip.compress(raw) if name.lower().endswith(".gz") else raw)
    return file


def _quoted(delimiter: str, newline: str = "\n") -> str:
    rows = [("id", "text"), *ROWS]
    return newline.join(delimiter.join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows)


def _contents() -> dict[str, bytes]:
    objects = [{"id": id_, "text": text} for id_, text in ROWS]
    columns = {"id": [id_ for id_, _ in ROWS], "text": [text for _, text in ROWS]}
    packed = io.BytesIO()
    parquet.write_table(pa.table(columns), packed)
    excel = "sep=;\r\n" + _quoted(";", "\r\n")
    return {
        "r.csv": _quoted(",").encode(),
        "marked.csv": codecs.BOM_UTF8 + _quoted(",", "\r\n").encode(),
        "R.CSV": _quoted(",").encode(),
        "r.CSV.GZ": _quoted(",").encode(),
        "semicolons.csv": _quoted(";").encode(),
        "r.tsv": _quoted("\t").encode(),
        "bars.csv": _quoted("|").encode(),
        "excel.csv": excel.encode("windows-1252"),
        "unicode.csv": excel.encode("utf-16"),
        "big-endian.csv": codecs.BOM_UTF16_BE + _quoted("\t").encode("utf-16-be"),
        "r.jsonl": "\n\n".join(map(json.dumps, objects)).encode(),
        "r.ndjson.gz": "\r\n".join(map(json.dumps, objects)).encode(),
        "lines.json": "\n".join(map(json.dumps, objects)).encode(),
        "windows.jsonl": "\n".join(json.dumps(row, ensure_ascii=False) for row in objects).encode("cp1252"),
        "array.json": json.dumps(objects, indent=2).encode("utf-8-sig"),
        "array.JSON.gz": json.dumps(objects).encode(),
        "r.parquet": packed.getvalue(),
        "r.parquet.gz": packed.getvalue(),
    }


CONTENTS = _contents()


@pytest.mark.parametrize("name", CONTENTS)
def test_one_content_is_the_same_rows_in_every_format_packing_and_encoding(tmp_path: Path, name: str) -> None:
    rows = [values for _, values in _read(_file(tmp_path, name, CONTENTS[name]))]
    assert rows == [{"id": id_, "text": text} for id_, text in ROWS]


@pytest.mark.parametrize("name", CONTENTS)
def test_standard_input_has_the_same_rows_by_how_it_begins(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    raw = gzip.compress(CONTENTS[name]) if name.lower().endswith(".gz") else CONTENTS[name]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw), encoding="ascii"))
    rows = [values for _, values in _read(Path("-"))]
    assert rows == [{"id": id_, "text": text} for id_, text in ROWS]


def test_a_pipe_hands_on_each_row_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with open(reading, encoding="utf-8") as stdin, open(writing, "wb", buffering=0) as pipe:  # noqa: PTH123  descriptors
        monkeypatch.setattr(sys, "stdin", stdin)
        pipe.write(b'{"text": "one"}\n')
        with open_table(Path("-"), [TEXT]) as table:
            assert next(table.rows).values == {"text": "one"}
            pipe.write(b'{"text": "two"}\n')
            assert next(table.rows).values == {"text": "two"}


def test_a_row_that_does_not_fit_its_header_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    content = "id,text,product\nA01,Nice, but small,shoe\n\nA02,Short\nA03,Fine,shoe\n"
    assert _read(_file(tmp_path, "r.csv", content)) == [
        ("line 2", "wrong_width"), ("line 4", "wrong_width"), ("line 5", {"id": "A03", "text": "Fine"}),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "reason"),
    [('B02,"Never closed\n', "open_quote"), ('B02,"Closed" too early\n', "bad_quote")],
)
def test_a_quote_that_is_not_closed_is_named_where_it_opens_and_ends_the_reading(
    tmp_path: Path, row: str, reason: str
) -> None:
    file = _file(tmp_path, "r.csv", f"id,text\nB01,Good\n{row}B03,Good\nB04,Bad\n")
    assert _read(file) == [("line 2", {"id": "B01", "text": "Good"}), ("line 3", reason)]
    with open_table(file, COLUMNS) as table:
        *_, last = table.rows
    assert isinstance(last.found, BrokenTable)


def test_a_row_longer_than_the_bound_is_refused_and_a_long_one_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "x" * 200_000
    assert _read(_file(tmp_path, "r.csv", f"text\n{long}\n"), columns=[TEXT]) == [("line 2", {"text": long})]
    for module in (csv_table, json_table, parquet_table):
        monkeypatch.setattr(module, "MAX_ROW_CHARACTERS", 1000)
    lines = ",".join(["x" * 400] * 4)
    for content in (f"text\n{long}\nb\n", 'text\n"' + "x\n" * 2000, f"text,b,c,d\n{lines}\n"):
        assert _read(_file(tmp_path, "r.csv", content), columns=[TEXT]) == [("line 2", "too_long")]
    content = f'{{"text": "{long}"}}\n{{"text": "b"}}'
    assert _read(_file(tmp_path, "r.jsonl", content)) == [("line 1", "too_long"), ("line 2", {"text": "b"})]
    assert _read(_file(tmp_path, "r.json", f'[{{"text": "{long}"}}, {{"text": "b"}}]')) == [
        ("row 1", "not_json")
    ]
    parquet.write_table(pa.table({"text": [long, "b"]}), tmp_path / "r.parquet")
    assert _read(tmp_path / "r.parquet") == [("row 1", "too_long"), ("row 2", {"text": "b"})]


def test_a_row_begins_on_its_line_past_blank_lines_and_line_breaks_in_cells(tmp_path: Path) -> None:
    content = '\nsep=;\n\nid;"te\nxt"\na;"one\r\ntwo\nthree"\r\n\r\n\r\nb;"four\n\nfive";\r\nc;six\r\n'
    columns = [Column("te\nxt", "--text-column")]
    assert _read(_file(tmp_path, "r.csv", content), columns=columns) == [
        ("line 6", {"te\nxt": "one\r\ntwo\nthree"}), ("line 11", "wrong_width"),
        ("line 14", {"te\nxt": "six"}),
    ]  # fmt: skip


def test_a_declared_form_is_taken_at_its_word(tmp_path: Path) -> None:
    file = _file(tmp_path, "r.txt", "id:text\na:Добро, пожаловать\n".encode("koi8-r"))
    assert _read(file, Form(Kind.csv, "koi8-r", ":")) == [
        ("line 2", {"id": "a", "text": "Добро, пожаловать"})
    ]
    with pytest.raises(WrongUse, match=r"is not utf-16 .*--encoding"):
        _read(_file(tmp_path, "r.csv", b"odd"), Form(encoding="utf-16"))
    with pytest.raises(WrongUse, match="header is no row of a CSV"):
        _read(_file(tmp_path, "r.csv", 'id,"text\n'), Form(delimiter=","))
    with pytest.raises(WrongUse, match="There is no encoding 'klingon'"):
        _read(file, Form(encoding="klingon"))


def test_a_row_that_is_not_utf8_in_a_file_that_is_is_one_mistake(tmp_path: Path) -> None:
    good = "für müde Füße".encode()
    file = _file(tmp_path, "r.csv", b"id,text\na,caf\xe9\nb," + good + b"\n\xe9,c\n")
    assert _read(file, columns=[TEXT]) == [
        ("line 2", "not_utf8"), ("line 3", {"text": "für müde Füße"}), ("line 4", {"text": "c"}),
    ]  # fmt: skip
    (_, row) = _read(file, columns=[Column("id", "--id-column")], keep_all=True)[0]
    assert row == {"id": "a", "text": r"caf\xe9"}
    file = _file(tmp_path, "r.jsonl", b'{"text": "caf\xe9"}\n{"text": "' + good + b'"}')
    assert _read(file) == [("line 1", "not_utf8"), ("line 2", {"text": "für müde Füße"})]


def test_what_is_no_object_is_a_mistake_and_a_broken_array_ends_there(tmp_path: Path) -> None:
    rows = '{"text": "a"}\nno json\n{"text": NaN}\n[1]\n'
    assert [found for _, found in _read(_file(tmp_path, "r.jsonl", rows))] == [
        {"text": "a"}, "not_json", "not_json", "not_an_object",
    ]  # fmt: skip
    cases = {
        '[{"text": "a"}, 12]': [{"text": "a"}, "not_an_object"],
        '[{"text": "a"}, {"text"': [{"text": "a"}, "not_json"],
        '[{"text": "a"} {"text": "b"}]': [{"text": "a"}, "not_json"],
        '[{"text": "a"}] and more': [{"text": "a"}, "not_json"],
        '[{"text": "a"}': [{"text": "a"}, "not_json"],
        " [ ] ": [],
        "[" * 100_000: ["not_json"],
    }
    for content, expected in cases.items():
        assert [found for _, found in _read(_file(tmp_path, "r.json", content))] == expected


def test_an_array_longer_than_what_is_read_at_once_has_all_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_table, "_CHUNK_BYTES", 7)
    rows = [{"text": "ä" * number, "n": 10**number} for number in range(40)]
    file = _file(tmp_path, "r.json", "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]")
    assert [values for _, values in _read(file)] == rows


@pytest.mark.parametrize("name", ["r.csv", "r.jsonl", "array.json", "r.parquet"])
def test_a_column_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path, name: str) -> None:
    with pytest.raises(WrongUse, match=r"no column 'body' \(it has: id, text\): name it with --text-column"):
        _read(_file(tmp_path, name, CONTENTS[name]), columns=[Column("body", "--text-column")])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.csv", "", "r.csv is empty: a table begins with a line that names its columns"),
        ("r.csv", "text,id,text\n", "column 'text' more than once"),
        ("r.csv", "text,id,text\n".encode("utf-16-le"), "utf-16-le"),
        ("r.xlsx", b"PK\x03\x04rest", "save the sheet as CSV"),
        ("r.csv.bz2", bz2.compress(b"text\na"), "packed by bzip2: unpack it"),
        ("r.csv", lzma.compress(b"text\na"), "packed by xz"),
        # mtime=0: the bytes name the test, and each of two test processes has to find the same name
        ("r.csv.gz", gzip.compress(b"text\na", mtime=0), "packed by gzip, twice"),
        ("r.parquet", b"PAR1", "no Parquet file that can be read"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, name: str, content, message: str) -> None:
    with pytest.raises(WrongUse, match=message):
        _read(_file(tmp_path, name, content))


def test_files_that_cannot_be_read_say_so_in_a_sentence(tmp_path: Path) -> None:
    cut = gzip.compress(b'{"text": "Good."}\n' * 1000)[:-20]
    for name, content in {"cut.jsonl.gz": cut, "none.csv.gz": b"text\nGood.\n"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WrongUse, match="cannot be read"):
            _read(tmp_path / name)
    (tmp_path / "folder.csv").mkdir()
    for missing in ("missing.csv", "folder.csv"):
        with pytest.raises(WrongUse, match="cannot be read"):
            _read(tmp_path / missing)


def test_what_goes_wrong_with_the_rows_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    file = _file(tmp_path, "r.csv", "text\nGood.\nBad.\n")
    with pytest.raises(ConnectionResetError):
        _fail_after_one_row(file)


def _fail_after_one_row(file: Path) -> None:
    with open_table(file, [TEXT]) as table:
        next(table.rows)
        raise ConnectionResetError("the broker")


def _odd_columns() -> dict[str, pa.Array]:
    """Columns that PyArrow writes and Python's types do not hold."""
    raw = pa.py_buffer(b"\xff\xfe")
    bad = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), raw])
    return {
        "nanoseconds": pa.array([1], pa.timestamp("ns")),
        "far": pa.array([2**60], pa.timestamp("ms")),
        "zone": pa.array([1], pa.timestamp("us", tz="Nowhere/Land")),
        "long": pa.array([2**62], pa.duration("us")),
        "duration": pa.array([1], pa.duration("ns")),
        "clock": pa.array([1], pa.time64("ns")),
        "bad": bad,
        "days": pa.array([2**30], pa.date32()),
        "nested": pa.array([[2**60]], pa.list_(pa.timestamp("ms"))),
        "bad_part": pa.StructArray.from_arrays([bad], ["x"]),
        "text": pa.array(["Good."]).dictionary_encode(),
        "id": pa.array([b"7"], pa.binary()),
    }


def test_columns_that_nobody_asked_for_stop_no_parquet_file(tmp_path: Path) -> None:
    columns = _odd_columns()
    parquet.write_table(pa.table(columns), tmp_path / "r.parquet", store_schema=True)
    assert _read(tmp_path / "r.parquet") == [("row 1", {"text": "Good.", "id": "7"})]
    with open_table(tmp_path / "r.parquet", [TEXT], keep_all=True) as table:
        (row,) = table.rows
    assert row.values["bad"] == r"\xff\xfe"
    assert all(isinstance(json.dumps(row.values[name]).encode(), bytes) for name in columns)


def test_values_of_parquet_are_those_of_json(tmp_path: Path) -> None:
    columns = {
        "text": pa.array(["a", None]),
        "whole": pa.array([2.0, float("nan")]),
        "exact": pa.array([1, 2], pa.decimal128(5, 2)),
        "at": pa.array([datetime(2026, 1, 31, tzinfo=UTC), None], pa.timestamp("ms", tz="Europe/Berlin")),
        "dotted.name": pa.array([True, False]),
    }
    parquet.write_table(pa.table(columns), tmp_path / "r.parquet")
    rows = _read(tmp_path / "r.parquet", columns=[Column(name, "--x") for name in columns])
    assert [values for _, values in rows] == [
        {"text": "a", "whole": 2.0, "exact": 1, "at": "2026-01-31T00:00:00+00:00", "dotted.name": True},
        {"text": None, "whole": None, "exact": 2, "at": None, "dotted.name": False},
    ]


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet"])
def test_a_number_that_json_has_none_for_becomes_text(tmp_path: Path, kind: str) -> None:
    if kind == "parquet":
        parquet.write_table(pa.table({"text": ["a"], "n": [float("-inf")]}), tmp_path / "r.parquet")
        written = "-inf"
    else:
        line, written = '{"text": "a", "n": -1e999}', "-1e999"
        _file(tmp_path, f"r.{kind}", f"[{line}]" if kind == "json" else line)
    rows = _read(tmp_path / f"r.{kind}", columns=[TEXT], keep_all=True)
    assert [values for _, values in rows] == [{"text": "a", "n": written}]


def test_reading_parquet_starts_no_thread_that_could_abort_the_end_of_a_process(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"text": ["a"] * 5000}), tmp_path / "r.parquet", row_group_size=500)
    code = """if True:
        import os, sys
        from pathlib import Path
        import pyarrow.parquet
        from trainer.data.table_rows import Column
        from trainer.data.tables import open_table
        before = os.listdir("/proc/self/task")
        with open_table(Path(sys.argv[1]), [Column("text", "--text-column")]) as table:
            print(sum(1 for _ in table.rows), os.listdir("/proc/self/task") == before)
    """
    if not Path("/proc/self/task").is_dir():
        pytest.skip("threads are counted in /proc, which this system has not")
    arguments = [sys.executable, "-c", code, str(tmp_path / "r.parquet")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "5000 True\n"), done.stderr


def test_whatever_is_in_a_file_is_rows_or_mistakes_or_refused(tmp_path: Path) -> None:
    random = Random(7)
    encodings = [None, None, "utf-16", "cp1252", "utf-7"]
    kinds = [None, None, *Kind]
    for number in range(400):
        name = random.choice(sorted(CONTENTS))
        raw = bytearray(CONTENTS[name])
        for _ in range(random.randint(1, 5)):
            place = random.randrange(len(raw))
            raw[place : place + random.randint(0, 3)] = random.choice(
                [b'"', b"\n", b",", b"[", b"\xff\xfe", b"\0"]
            )
        file = _file(tmp_path, f"{number}{random.choice(sorted(CONTENTS))}", bytes(raw))
        with suppress(WrongUse):
            _read(file, Form(random.choice(kinds), random.choice(encodings)))
