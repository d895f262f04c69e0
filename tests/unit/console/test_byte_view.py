"""Bytes made visible: every byte in its place, and a text that comes back as it was."""

import json
from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from console.byte_view import byte_lines, editable, edited, first_broken_byte
from reviews.sanitise import sanitise


@given(st.binary(max_size=100))
def test_the_lines_hold_every_byte_once(value: bytes) -> None:
    lines = byte_lines(value, 0, 100)
    assert bytes.fromhex(" ".join(line.numbers for line in lines)) == value
    assert [line.offset for line in lines] == list(range(0, len(value), 16))


def test_a_part_begins_at_a_whole_line_and_marks_the_wrong_byte() -> None:
    value = b"a" * 40 + b"\xff" + b"b" * 40
    assert first_broken_byte(value) == 40
    lines = byte_lines(value, 20, 32, mark=40)
    assert [(line.offset, line.is_marked) for line in lines] == [(16, False), (32, True)]
    assert lines[1].characters == "aaaaaaaa·bbbbbbb"


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=3))
def test_a_text_that_nobody_changed_means_the_same(value: dict[str, str]) -> None:
    raw = json.dumps(value, ensure_ascii=False).encode(errors="replace")
    shown = editable(raw)
    assert shown.encoding == "utf-8"
    assert json.loads(edited(shown.text.replace("\n", "\r\n"))) == json.loads(raw)


def test_line_ends_and_blanks_of_any_kind_mean_the_same_in_a_form() -> None:
    raw = '{"id":\r\n"1",\r"text":\t"a\u00a0b\u3000c\u2028d"}'.encode()
    shown = editable(raw).text
    assert sanitise(shown) == shown
    assert json.loads(edited(shown.replace("\n", "\r\n"))) == json.loads(raw)


def test_nothing_invisible_is_left_in_a_text_to_edit() -> None:
    shown = editable('{"text": "a\u202eb\u200bc\U000e0001"}'.encode()).text
    assert shown == '{"text": "a\\u202eb\\u200bc\\udb40\\udc01"}'
    assert set(chain(shown)).isdisjoint("\u202e\u200b\U000e0001")


def test_bytes_that_are_not_utf_8_are_read_as_windows_1252() -> None:
    shown = editable(b'{"text": "gr\xf6\xdfer"}')
    assert (shown.text, shown.encoding) == ('{"text": "größer"}', "windows-1252")
