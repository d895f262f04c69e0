"""Reviews in files: what becomes a message, what is named as a mistake, and by which line."""

import gzip
import io
import json
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from reviewloop.files.reviews import Columns, FileRow, open_reviews
from reviews.errors import WrongUse

USUAL = Columns()


def _rows(folder: Path, name: str, content: bytes | str, columns: Columns = USUAL) -> list[FileRow]:
    file = folder / name
    raw = content.encode() if isinstance(content, str) else content
    file.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    with open_reviews(file, columns) as reviews:
        return list(reviews.rows)


def _texts(rows: list[FileRow]) -> list[str | None]:
    return [row.message and row.message.text for row in rows]


def _mistakes(rows: list[FileRow]) -> list[tuple[str, str]]:
    return [(row.mistake.place, row.mistake.error.reason) for row in rows if row.mistake]


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
    assert [row.place for row in rows] == ["line 2", "line 3", "line 4"]


@pytest.mark.parametrize("name", ["r.jsonl", "r.ndjson", "r.jsonl.gz"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_json_lines_go_out_as_they_are(tmp_path: Path, name: str, bom: bytes) -> None:
    lines = [b'{"id": "a", "text": "Good.", "kept": [1]}', b'{"id":"b","text":"B\\u00e4d."}']
    rows = _rows(tmp_path, name, bom + b"\r\n\n".join(lines) + b"\n")
    assert [row.raw for row in rows] == lines
    assert [row.place for row in rows] == ["line 1", "line 3"]
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
    csv_rows = _rows(tmp_path, "r.csv", "id,text,stars\na,Good.,6\nb,,1\nc,Fine.,x\nd,Fine.\ne,Fine.,5\n")
    assert _mistakes(csv_rows) == [
        ("line 2", "bad_stars"), ("line 3", "missing_text"), ("line 4", "bad_stars"),
        ("line 5", "wrong_width"),
    ]  # fmt: skip
    assert _texts(csv_rows) == [None, None, None, None, "Fine."]
    json_rows = _rows(
        tmp_path,
        "r.jsonl",
        '{"id": "a"}\n\nno json\n{"id": "b", "text": "Fine."}\n[1]\n{"id": "c", "text": 5}\n',
    )
    assert _mistakes(json_rows) == [
        ("line 1", "missing_text"), ("line 3", "not_json"), ("line 5", "not_an_object"),
        ("line 6", "bad_text"),
    ]  # fmt: skip
    assert _texts(json_rows)[2] == "Fine."


def test_an_open_quote_swallows_no_review(tmp_path: Path) -> None:
    rows = _rows(tmp_path, "r.csv", 'id,text\nB00,Fine\nB01,"Never closed\nB02,Good\nB03,Bad')
    assert _texts(rows) == ["Fine", None]
    assert _mistakes(rows) == [("line 3", "open_quote")]


def test_a_row_without_an_id_gets_one_that_no_other_place_and_no_other_content_has(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    contents = ["text\nGood.\nGood.\n", "text\nGood.\nBad.\n", "id,text\n,Good.\n"]
    files = [(tmp_path / "one", contents[0]), (tmp_path / "two", contents[1]), (tmp_path, contents[2])]
    rows = [row for folder, content in files for row in _rows(folder, "r.csv", content)]
    rows += _rows(tmp_path, "r.jsonl", '{"text": "Good.", "stars": 5}\n{"id": null, "text": "Good."}')
    rows += _rows(tmp_path / "one", "r.csv", "text\nBad.\n")  # the first file, with other content
    ids = [row.message.id for row in rows if row.message]
    assert len(set(ids)) == len(ids) == 8
    assert all(row.has_made_id for row in rows)
    assert ids[0].startswith("r.csv:2:")
    again = _rows(tmp_path / "one", "r.csv", contents[0])
    assert [row.message and row.message.id for row in again] == ids[:2]


@pytest.mark.parametrize("name", ["id", "product", "source", "published_at", "stars"])
def test_a_column_that_was_named_and_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    columns = Columns(**{name: "key"}, named=frozenset({name}))
    option = f"--{name.replace('_', '-')}-column"
    with pytest.raises(WrongUse, match=rf"no column 'key' \(it has: id, text\).*{option}"):
        _rows(tmp_path, "r.csv", "id,text\na,Good.\n", columns)
    with pytest.raises(WrongUse, match="no column 'key'"):
        _rows(tmp_path, "r.jsonl", '{"id": "a", "text": "Good."}\n{"id": "b", "text": "Good."}', columns)


def test_no_id_is_made_where_a_field_with_ids_was_named(tmp_path: Path) -> None:
    columns = Columns(id="key", named=frozenset({"id"}))
    rows = _rows(tmp_path, "r.jsonl", '{"text": "Good."}\n{"key": "b", "text": "Good."}', columns)
    assert _mistakes(rows) == [("line 1", "missing_id")]


@pytest.mark.parametrize("values", [{"id": 7, "stars": 5.0}, {"id": "7", "stars": "5"}])
def test_one_value_is_one_message_in_every_format(tmp_path: Path, values: dict[str, object]) -> None:
    row = {**values, "text": "Good.", "published_at": "2026-01-31", "product": 12}
    parquet.write_table(pa.table({name: [value] for name, value in row.items()}), tmp_path / "r.parquet")
    cells = ",".join(map(str, row.values()))
    found = [
        *_rows(tmp_path, "r.csv", f"{','.join(row)}\n{cells}\n"),
        *_rows(tmp_path, "r.jsonl", json.dumps(row)),
        *_rows(tmp_path, "r.json", json.dumps([row])),
        *_rows(tmp_path, "r.parquet", (tmp_path / "r.parquet").read_bytes()),
    ]
    assert [one.mistake for one in found] == [None] * 4
    assert {one.message for one in found} == {found[0].message}
    assert found[0].message is not None
    assert (found[0].message.id, found[0].message.stars, found[0].message.product) == ("7", 5, "12")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("r.csv", "id,text\na,{}\nb,Good.\n"),
        ("r.jsonl", '{{"id": "a", "text": "{}"}}\n{{"id": "b", "text": "Good."}}'),
    ],
)
def test_a_review_that_workers_find_too_long_is_a_mistake(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content.format("x" * 100))
    with open_reviews(tmp_path / name, USUAL, max_bytes=100) as reviews:
        rows = list(reviews.rows)
    assert _texts(rows) == [None, "Good."]
    assert [reason for _, reason in _mistakes(rows)] == ["too_long"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            '{"id": "a", "text": "Good."},',
            "line 1: The value is not JSON: trailing characters at character 29.",
        ),
        ('[{"id": "a\n"}]', "(Invalid control character at character 10)"),
    ],
)
def test_a_mistake_of_json_has_one_place(tmp_path: Path, content: str, says: str) -> None:
    (row,) = _rows(tmp_path, "r.json", content)
    assert says in str(row.mistake)


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz"])
def test_an_empty_file_has_no_rows(tmp_path: Path, name: str) -> None:
    assert _rows(tmp_path, name, b"") == []


def test_json_lines_from_standard_input_go_out_as_they_are_whatever_its_encoding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw = '\ufeff{"id": "a", "text": "Bäd."}\n{"text": "Good."}\n'.encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw), encoding="ascii"))
    with open_reviews(Path("-"), Columns()) as reviews:
        found = list(reviews.rows)
    assert _texts(found) == ["Bäd.", "Good."]
    assert found[0].raw == '{"id": "a", "text": "Bäd."}'.encode()
    assert found[1].message is not None
    assert found[1].message.id.startswith("stdin:2:")
