"""Reviews in files: what becomes a message, what is named as a mistake, and by which line."""

import gzip
import io
import json
import sys
from pathlib import Path

import pytest

from reviewloop.review_files import Columns, FileRow, open_reviews
from reviews.errors import WrongUse


def _rows(folder: Path, name: str, content: bytes | str, columns: Columns = Columns()) -> list[FileRow]:  # noqa: B008
    file = folder / name
    raw = content.encode() if isinstance(content, str) else content
    file.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    with open_reviews(file, columns) as rows:
        return list(rows)


def _texts(rows: list[FileRow]) -> list[str | None]:
    return [row.message and row.message.text for row in rows]


def _mistakes(rows: list[FileRow]) -> list[tuple[int, str]]:
    return [(row.line, row.mistake.reason) for row in rows if row.mistake]


@pytest.mark.parametrize("name", ["r.csv", "r.csv.gz"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_a_csv_becomes_messages_with_numbers_and_without_empty_cells(
    tmp_path: Path, name: str, bom: bytes
) -> None:
    content = bom + (
        b"id,text,product,stars,published_at,ignored\r\n"
        b'a,"Good, ""very"" good.",lamp,5,2026-01-31,x\r\n'
        b"b,Bad.,,1.0,,\r\n"
        b"c,So so.,,,,\r\n"
    )
    rows = _rows(tmp_path, name, content)
    assert [json.loads(row.raw) for row in rows] == [
        {
            "id": "a",
            "text": 'Good, "very" good.',
            "product": "lamp",
            "published_at": "2026-01-31",
            "stars": 5,
        },
        {"id": "b", "text": "Bad.", "stars": 1},
        {"id": "c", "text": "So so."},
    ]
    assert [row.line for row in rows] == [2, 3, 4]


@pytest.mark.parametrize("name", ["r.jsonl", "r.ndjson", "r.jsonl.gz"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_json_lines_go_out_as_they_are(tmp_path: Path, name: str, bom: bytes) -> None:
    lines = [b'{"id": "a", "text": "Good.", "kept": [1]}', b'{"id":"b","text":"B\\u00e4d."}']
    rows = _rows(tmp_path, name, bom + b"\r\n\n".join(lines) + b"\n")
    assert [row.raw for row in rows] == lines
    assert [row.line for row in rows] == [1, 3]
    assert _texts(rows) == ["Good.", "Bäd."]


def test_named_columns_are_read_instead_in_both_formats(tmp_path: Path) -> None:
    columns = Columns(id="key", text="body", stars="rating")
    expected = {"id": "a", "text": "Good.", "stars": 4}
    (row,) = _rows(tmp_path, "r.csv", "key,body,rating,id\na,Good.,4,no\n", columns)
    assert json.loads(row.raw) == expected
    (row,) = _rows(
        tmp_path, "r.jsonl", '{"key": "a", "body": "Good.", "rating": 4, "id": "no", "text": 1}', columns
    )
    assert json.loads(row.raw) == expected


def test_bad_rows_are_named_by_their_line_and_the_others_go_on(tmp_path: Path) -> None:
    csv_rows = _rows(tmp_path, "r.csv", "id,text,stars\na,Good.,6\nb,,1\nc,Fine.,x\nd,Fine.,0.5\ne,Fine.,5\n")
    assert _mistakes(csv_rows) == [(2, "bad_stars"), (3, "missing_text"), (4, "bad_stars"), (5, "bad_stars")]
    assert _texts(csv_rows) == [None, None, None, None, "Fine."]
    json_rows = _rows(
        tmp_path,
        "r.jsonl",
        '{"id": "a"}\n\nno json\n{"id": "b", "text": "Fine."}\n[1]\n{"id": "c", "text": 5}\n',
    )
    assert _mistakes(json_rows) == [
        (1, "missing_text"),
        (3, "not_json"),
        (5, "not_an_object"),
        (6, "bad_text"),
    ]
    assert _texts(json_rows)[2] == "Fine."


def test_a_row_is_named_by_its_first_line_past_blank_lines_and_line_breaks_in_cells(tmp_path: Path) -> None:
    content = 'id,text,stars\r\na,"one\r\ntwo\nthree",5\r\n\r\n\r\nb,"four\n\nfive",9\r\nc,six,9\r\n'
    rows = _rows(tmp_path, "r.csv", content)
    assert [row.line for row in rows] == [2, 7, 10]
    assert _mistakes(rows) == [(7, "bad_stars"), (10, "bad_stars")]
    assert rows[0].message is not None
    assert rows[0].message.text == "one\r\ntwo\nthree"


def test_a_row_that_is_not_utf8_is_one_mistake_and_not_the_end_of_the_file(tmp_path: Path) -> None:
    for name, content in {
        "r.csv": b"id,text\na,caf\xe9\nb,Good.\n",
        "r.jsonl": b'{"id": "a", "text": "caf\xe9"}\n{"id": "b", "text": "Good."}\n',
    }.items():
        rows = _rows(tmp_path, name, content)
        assert [reason for _, reason in _mistakes(rows)] == ["not_utf8"]
        assert _texts(rows) == [None, "Good."]


def test_a_row_without_an_id_is_named_by_its_file_and_line(tmp_path: Path) -> None:
    rows = [
        *_rows(tmp_path, "one.csv", "text\nGood.\n"),
        *_rows(tmp_path, "two.csv", "id,text\n,Good.\n"),
        *_rows(tmp_path, "three.jsonl", '{"text": "Good.", "stars": 5}'),
        *_rows(tmp_path, "four.jsonl", '{"body": "Good."}', Columns(text="body")),
    ]
    ids = [row.message and row.message.id for row in rows]
    assert ids == ["one.csv:2", "two.csv:2", "three.jsonl:1", "four.jsonl:1"]


def test_rows_longer_or_shorter_than_the_header_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    rows = _rows(tmp_path, "r.csv", "id,text,product\na,Good.,lamp,more,and more\nb,Bad.\nc\n")
    assert _texts(rows) == ["Good.", "Bad.", None]
    assert _mistakes(rows) == [(4, "missing_text")]


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz"])
def test_an_empty_file_has_no_rows(tmp_path: Path, name: str) -> None:
    assert _rows(tmp_path, name, b"") == []


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "the file has: none"),
        ("id,body\na,Good.\n", "the file has: id, body"),
        ("\n\n", "the file has: none"),
    ],
)
def test_a_csv_without_the_text_column_says_which_columns_it_has(
    tmp_path: Path, content: str, complaint: str
) -> None:
    with pytest.raises(WrongUse, match=rf"no column 'text' \({complaint}\).*--text-column"):
        _rows(tmp_path, "r.csv", content)


@pytest.mark.parametrize("name", ["r.txt", "r", "r.gz", "r.parquet"])
def test_a_file_of_another_kind_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(WrongUse, match="no known kind"):
        _rows(tmp_path, name, b"")


def test_files_that_cannot_be_read_say_so_in_a_sentence(tmp_path: Path) -> None:
    for name, content in {
        "cut.jsonl.gz": gzip.compress(b'{"id": "a", "text": "Good."}\n' * 1000)[:-20],
        "none.csv.gz": b"text\nGood.\n",
        "broken.jsonl.gz": gzip.compress(b"x" * 1000)[:12] + b"\xff" * 50,
    }.items():
        file = tmp_path / name
        file.write_bytes(content)
        with pytest.raises(WrongUse, match="cannot be read"), open_reviews(file, Columns()) as rows:
            list(rows)
    for missing in (tmp_path / "missing.csv", tmp_path / "folder.csv"):
        (tmp_path / "folder.csv").mkdir(exist_ok=True)
        with pytest.raises(WrongUse, match="cannot be read"), open_reviews(missing, Columns()) as rows:
            list(rows)


def _fail_after_one_row(file: Path) -> None:
    with open_reviews(file, Columns()) as rows:
        next(rows)
        raise ConnectionResetError("the broker")


@pytest.mark.parametrize("name", ["r.jsonl", "r.csv"])
def test_what_goes_wrong_with_the_rows_is_not_blamed_on_the_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"text\nGood.\nBad.\n")
    with pytest.raises(ConnectionResetError):
        _fail_after_one_row(tmp_path / name)


def test_a_dash_reads_json_lines_from_standard_input_whatever_its_encoding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw = '\ufeff{"id": "a", "text": "Bäd."}\n{"text": "Good."}\n'.encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw), encoding="ascii"))
    with open_reviews(Path("-"), Columns()) as rows:
        found = list(rows)
    assert _texts(found) == ["Bäd.", "Good."]
    assert found[1].message is not None
    assert found[1].message.id == "stdin:2"


def test_a_cell_of_a_megabyte_is_a_row(tmp_path: Path) -> None:
    (row,) = _rows(tmp_path, "r.csv", "id,text\na," + "x" * 1_000_000 + "\n")
    assert row.message is not None
    assert len(row.message.text) == 1_000_000
